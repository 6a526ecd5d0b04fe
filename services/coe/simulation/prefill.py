"""How a worker splits the prompts that join a batch into steps. Mirrors coe.experts.step_plan in token counts."""

from collections.abc import Iterator, Sequence

from coe.experts.prefill_budget import prefill_tokens, shares


def prefill_steps(prompts: Sequence[int], shared: int, decoding: int) -> Iterator[tuple[int, list[int]]]:
    """Yields, for each step, the tokens it computes and the prompts whose first token it samples.

    The count includes one token for each sequence that decodes in the step. `prompts`: how many tokens of each have to
    be computed. The first prompt computes the first `shared` of them for all; 0 if they are cached.
    """
    left = list(prompts)
    waiting = list(range(len(left)))
    while waiting:
        room = prefill_tokens(decoding, len(waiting))
        computed, drew = 0, list[int]()
        for going in (waiting[:1], waiting[1:]) if shared else (waiting,):
            if not going or computed == room:
                break
            counts = shares([left[prompt] for prompt in going], room - computed)
            computed += sum(counts)
            for prompt, count in zip(going, counts, strict=True):
                left[prompt] -= count
            drew += [prompt for prompt in going if not left[prompt]]
            if shared:
                left[1:] = [max(1, tokens - shared) for tokens in left[1:]]
                shared = 0
        yield decoding + computed, drew
        waiting = [prompt for prompt in waiting if left[prompt]]
        decoding += len(drew)
