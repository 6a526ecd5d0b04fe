"""The simulator's prefill is the worker's: the same steps, whatever joins."""

from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from coe.experts import step_plan
from coe.simulation.prefill import prefill_steps

BLOCK = 16


@dataclass
class Sequence:
    """What the worker's plan looks at."""

    ids: list[int]
    prompt_tokens: int
    computed: int = 0
    blocks: tuple[int, ...] = ()
    kv: None = None
    scores: None = None

    @property
    def pending(self) -> int:
        return len(self.ids) - self.computed

    @property
    def completion_tokens(self) -> int:
        return len(self.ids) - self.prompt_tokens


def worker_steps(sequences: list[Sequence], shared: int) -> list[tuple[int, list[int]]]:
    """Tokens of each step, and who draws a first token, until everyone has one."""
    steps = []
    while any(not sequence.completion_tokens for sequence in sequences):
        chunks = step_plan.plan_step(sequences, BLOCK)  # type: ignore[arg-type]
        drawing = [chunk.sequence for chunk in chunks if chunk.draws]
        first = [place for place, one in enumerate(sequences) if one in drawing and not one.completion_tokens]
        steps.append((sum(chunk.count for chunk in chunks), first))
        for chunk in chunks:
            chunk.sequence.computed = chunk.end
        for sequence in drawing:
            sequence.ids.append(0)
        if max(sequence.computed for sequence in sequences) >= shared:
            # What they begin with is known now.
            for sequence in sequences:
                sequence.computed = sequence.computed or shared
    return steps


@given(
    st.integers(0, 3),
    st.lists(st.integers(1, 200), min_size=1, max_size=40),
    st.integers(0, 20),
)
def test_as_the_worker_plans(blocks: int, tails: list[int], decoding: int) -> None:
    shared = blocks * BLOCK
    unique = 1000
    sequences = []
    for tail in tails:
        sequences.append(Sequence([*range(shared), *range(unique, unique + tail)], shared + tail))
        unique += tail
    # With others decoding, the beginning was computed before: it is theirs too.
    live = [Sequence([0, 1], 1, computed=1) for _ in range(decoding)]
    if decoding:
        for sequence in sequences:
            sequence.computed = shared
    simulated = prefill_steps([sequence.pending for sequence in sequences], 0 if decoding else shared, decoding)
    expected = [
        (tokens, [place - decoding for place in first]) for tokens, first in worker_steps(live + sequences, shared)
    ]
    assert list(simulated) == expected
