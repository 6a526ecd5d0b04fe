"""Between these an answer has a call (ADR 17)."""

BEGIN, END = "<tool_call>", "</tool_call>"
