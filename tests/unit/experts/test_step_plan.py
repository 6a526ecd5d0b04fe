"""Which tokens a step computes: everybody's next, guesses where there is room, and no beginning twice."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coe.experts.prefill_budget import PREFILL_TOKENS, PREFILL_TOKENS_BESIDE_DECODES
from coe.experts.step_plan import SCORED, Chunk, plan_step

BLOCK = 4
KV = object()


@dataclass(eq=False)
class One:
    """A sequence, as far as a plan looks at it. It guesses whatever it may."""

    ids: list[int]
    computed: int = 0
    completion_tokens: int = 0
    blocks: tuple[int, ...] = ()
    kv: object = KV
    scores: object = None
    asked: list[int] = field(default_factory=list)

    @property
    def pending(self) -> int:
        return len(self.ids) - self.computed

    def guess(self, most: int) -> tuple[int, ...]:
        self.asked.append(most)
        return tuple(range(most))


def plan(*sequences: One, guesses: int = 0) -> list[Chunk]:
    return plan_step(sequences, BLOCK, guesses)  # type: ignore[arg-type]


def decoding(pending: int = 1) -> One:
    return One([0] * 20, computed=20 - pending, completion_tokens=1)


def prompt(tokens: int, start: int = 0, **facts: object) -> One:
    """No two of other starts begin alike."""
    return One(list(range(start, start + tokens)), **facts)  # type: ignore[arg-type]


@given(st.lists(st.integers(1, 3), min_size=1, max_size=8), st.integers(0, 6))
def test_every_decode_takes_its_step_and_guesses_fill_what_is_left(pending: list[int], guesses: int) -> None:
    chunks = plan(*map(decoding, pending), guesses=guesses)
    assert [chunk.count for chunk in chunks] == pending
    assert all(chunk.draws for chunk in chunks)
    guessed = [len(chunk.guesses) for chunk in chunks]
    assert sum(guessed) == max(1 + guesses - sum(pending), 0)
    assert max(guessed) - min(guessed) <= 1
    assert [chunk.rows for chunk in chunks] == [1 + count for count in guessed]


def test_guesses_that_one_does_not_make_are_anothers() -> None:
    silent, other = decoding(), decoding()
    silent.guess = lambda most: ()  # type: ignore[method-assign]
    chunks = plan(silent, other, guesses=3)
    assert [len(chunk.guesses) for chunk in chunks] == [0, 2]


def test_nobody_guesses_beside_a_prompt() -> None:
    alone = decoding()
    chunks = plan(alone, prompt(10), guesses=3)
    assert alone.asked == []
    assert [chunk.count for chunk in chunks] == [1, 10]


def test_prompts_have_what_prefill_is_allowed() -> None:
    (chunk,) = plan(prompt(2000))
    assert (chunk.count, chunk.draws, chunk.rows) == (PREFILL_TOKENS, False, 0)
    assert [chunk.count for chunk in plan(decoding(), prompt(2000))] == [1, PREFILL_TOKENS_BESIDE_DECODES]
    # The shortest first: who gets nothing has no part in the step.
    chunks = plan(prompt(2000), prompt(300, 5000), prompt(200, 9000))
    assert [(chunk.sequence.ids[0], chunk.count) for chunk in chunks] == [(0, 256), (5000, 56), (9000, 200)]
    chunks = plan(prompt(2000), prompt(300, 5000), prompt(256, 9000))
    assert [(chunk.sequence.ids[0], chunk.count) for chunk in chunks] == [(0, 256), (9000, 256)]


def counts(*prompts: One) -> list[int]:
    """Of each prompt, in this order; 0: it waits."""
    given_ = {id(chunk.sequence): chunk.count for chunk in plan(*prompts)}
    return [given_.get(id(one), 0) for one in prompts]


@pytest.mark.parametrize(
    ("first", "second", "behind"),
    [
        (prompt(10), prompt(10), 8),
        (prompt(10), prompt(5), 4),
        (prompt(5), prompt(10), 4),
        # Its last token is computed in any case, so that it can draw.
        (prompt(8), prompt(8), 4),
        (prompt(10), prompt(4), 0),
        (prompt(10), prompt(10, 1), 0),
        (prompt(10, computed=3), prompt(10), 8),
        (prompt(10, computed=4), prompt(10), 0),
        (prompt(10, computed=4), prompt(10, computed=4), 8),
        (prompt(10, computed=3), prompt(10, computed=3), 3),
        # In a step of single tokens each is attended to as soon as it is there, whoever else is not yet.
        (prompt(4, computed=3), prompt(6), 0),
        (prompt(10), prompt(10, kv=object()), 0),
        # Its own tokens tell how likely they were.
        (prompt(10), prompt(10, scores=object()), 0),
    ],
)
def test_a_prompt_begins_behind_the_blocks_that_another_computes(first: One, second: One, behind: int) -> None:
    chunks = plan(first, second)
    assert [(chunk.first, chunk.end) for chunk in chunks] == [
        (first.computed, len(first.ids)),
        (behind, len(second.ids)),
    ]


def test_others_blocks_stand_in_front_of_its_own() -> None:
    """Also of who begins behind somebody itself."""
    trunk, branch = prompt(6, blocks=(0, 1)), One([0, 1, 2, 3, 7, 7, 7, 7, 7], blocks=(2, 3, 4))
    leaf = One([0, 1, 2, 3, 7, 7, 7, 7, 8], blocks=(5, 6, 7))
    chunks = plan(trunk, branch, leaf)
    assert [(chunk.first, chunk.blocks) for chunk in chunks] == [(0, (0, 1)), (4, (0, 3, 4)), (8, (0, 3, 7))]


def test_nobody_begins_behind_another_past_or_another_beginning() -> None:
    """Though a chunk of those has more of the same tokens than the one that it follows."""
    theirs = {"another past": prompt(14, blocks=(0, 1, 2, 3), kv=object())}
    theirs["another beginning"] = One([9] * 4 + list(range(4, 14)), blocks=(0, 1, 2, 3))
    for why, long in theirs.items():
        followed, follower = prompt(9, computed=4, blocks=(4, 5, 6)), prompt(14, computed=4, blocks=(7, 8, 9, 10))
        chunks = plan(long, followed, follower)
        assert [(chunk.first, chunk.blocks[:2]) for chunk in chunks] == [(0, (0, 1)), (4, (4, 5)), (8, (4, 5))], why


def test_what_a_step_has_no_room_for_is_waited_for() -> None:
    long = PREFILL_TOKENS_BESIDE_DECODES + BLOCK
    live = decoding(), decoding()
    assert counts(*live, prompt(long), prompt(long)) == [1, 1, PREFILL_TOKENS_BESIDE_DECODES, 0]
    assert counts(*live, prompt(long - BLOCK - 1), prompt(long)) == [1, 1, PREFILL_TOKENS_BESIDE_DECODES - 1, 1]


def test_of_prompts_that_are_told_of_few_tokens_are_computed_together() -> None:
    told = [prompt(tokens, start, scores=object()) for tokens, start in ((40, 0), (40, 5000))]
    plain = prompt(100, 9000)
    assert counts(plain, *told) == [100, 40, SCORED - 40]
    chunks = plan(*told, plain)
    assert [(chunk.count, chunk.scored) for chunk in chunks] == [(40, 39), (SCORED - 40, SCORED - 40), (100, 0)]
    # A row for each token that tells of the next one; who draws has another.
    assert [chunk.rows for chunk in chunks] == [40, SCORED - 40, 1]
