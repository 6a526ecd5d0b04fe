"""How a worker computes the prompts that join a batch, as coe.experts.step_plan has it, in numbers of tokens."""

from collections.abc import Iterator, Sequence

# The worker's (a test holds one against the other; the simulator needs no engine).
PREFILL_TOKENS = 512
PREFILL_TOKENS_BESIDE_DECODES = 64


def prefill_steps(prompts: Sequence[int], shared: int, decoding: int) -> Iterator[tuple[int, list[int]]]:
    """For each step: tokens it computes, with one for each decode beside; which prompts draw their first token then.

    `prompts`: tokens of each that have to be computed. The first `shared` of them (0 when they are known) the first
    prompt computes for all.
    """
    left = list(prompts)
    waiting = list(range(len(left)))
    while waiting:
        room = PREFILL_TOKENS
        if decoding:
            room = min(room, PREFILL_TOKENS_BESIDE_DECODES * max(1, len(waiting) // decoding))
        computed, drew = 0, []
        for prompt in waiting[:1] if shared else waiting:
            count = min(left[prompt], room - computed)
            left[prompt] -= count
            computed += count
            if not left[prompt]:
                drew.append(prompt)
            if computed == room:
                break
        yield decoding + computed, drew
        if shared:
            left[1:] = [max(1, tokens - shared) for tokens in left[1:]]
            shared = 0
        waiting = [prompt for prompt in waiting if left[prompt]]
        decoding += len(drew)
