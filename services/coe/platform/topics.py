"""Topic names. See docs/life-of-a-prompt.md for keys, messages, writers and readers."""

PROMPTS = "coe.prompts.v1"
ROUTED = "coe.routed.v1"
ASSIGNMENTS = "coe.assignments.v1"
TOKENS = "coe.tokens.v1"
COMPLETIONS = "coe.completions.v1"
DEAD_LETTER = "coe.dead-letter.v1"
CANCELLATIONS = "coe.cancellations.v1"
