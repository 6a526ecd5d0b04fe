"""How many prompt tokens a step computes, and whose. Nothing else: the simulator asks too, and needs no engine."""

from collections.abc import Sequence

# Many when nobody waits for the next token, few beside running decodes.
PREFILL_TOKENS = 512
PREFILL_TOKENS_BESIDE_DECODES = 64


def prefill_tokens(decoding: int, waiting: int) -> int:
    """Few beside running decodes, the more of them the more prompts wait for each decode that they hold up."""
    if not decoding:
        return PREFILL_TOKENS
    return min(PREFILL_TOKENS, PREFILL_TOKENS_BESIDE_DECODES * max(1, waiting // decoding))


def shares(pending: Sequence[int], room: int) -> list[int]:
    """Tokens of each prompt that a step with `room` computes. `pending`: what is left of each, in order of arrival.

    The first one has half of the room, so nobody is passed for ever. The others have the rest, the shortest first: a
    long prompt does not hold up short ones behind it. What they leave is the first one's too.
    """
    given = [0] * len(pending)
    given[0] = min(pending[0], room - room // 2)
    left = room - given[0]
    for index in sorted(range(1, len(pending)), key=pending.__getitem__):
        given[index] = min(pending[index], left)
        left -= given[index]
    given[0] += min(pending[0] - given[0], left)
    return given
