"""The marks around a tool call in an answer (ADR 17)."""

BEGIN, END = "<tool_call>", "</tool_call>"
