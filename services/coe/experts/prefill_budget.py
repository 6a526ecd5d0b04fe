"""How many prompt tokens a step computes, and of which prompts. Separate because the simulator uses it without an
engine."""

from collections.abc import Sequence

# Many when no sequence is decoding, few otherwise.
PREFILL_TOKENS = 512
PREFILL_TOKENS_BESIDE_DECODES = 64


def prefill_tokens(decoding: int, waiting: int) -> int:
    """The prefill budget of a step. While sequences decode it is small, and grows with the prompts waiting per decoding
    sequence."""
    if not decoding:
        return PREFILL_TOKENS
    return min(PREFILL_TOKENS, PREFILL_TOKENS_BESIDE_DECODES * max(1, waiting // decoding))


def shares(pending: Sequence[int], room: int) -> list[int]:
    """Splits `room` tokens among prompts. `pending`: tokens left of each prompt, in order of arrival.

    The first prompt gets half of the room, so it can't starve. The others get the rest, shortest first, so a long
    prompt does not hold up short ones (no head-of-line blocking). What they leave goes to the first one, too.
    """
    given = [0] * len(pending)
    given[0] = min(pending[0], room - room // 2)
    left = room - given[0]
    for index in sorted(range(1, len(pending)), key=pending.__getitem__):
        given[index] = min(pending[index], left)
        left -= given[index]
    given[0] += min(pending[0] - given[0], left)
    return given
