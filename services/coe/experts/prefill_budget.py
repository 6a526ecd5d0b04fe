"""How many prompt tokens a step may compute. Nothing else: the simulator asks too, and needs no engine."""

# Many when nobody waits for the next token, few beside running decodes.
PREFILL_TOKENS = 512
PREFILL_TOKENS_BESIDE_DECODES = 64


def prefill_tokens(decoding: int, waiting: int) -> int:
    """Few beside running decodes, the more of them the more prompts wait for each decode that they hold up."""
    if not decoding:
        return PREFILL_TOKENS
    return min(PREFILL_TOKENS, PREFILL_TOKENS_BESIDE_DECODES * max(1, waiting // decoding))
