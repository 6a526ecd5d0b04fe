"""What a step computes of prompts that begin alike."""

from dataclasses import dataclass

from coe.experts.step_plan import plan_prompts

BLOCK = 4
ROOM = 100


@dataclass
class Prompt:
    """What the plan looks at."""

    ids: list[int]
    blocks: tuple[int, ...]
    computed: int = 0
    kv: None = None
    scores: None = None


def planned(*prompts: Prompt, room: int = ROOM) -> list[tuple[int, int, tuple[int, ...]]]:
    chunks = plan_prompts(prompts, room, BLOCK)  # type: ignore[arg-type]
    return [(chunk.first, chunk.end, chunk.blocks) for chunk in chunks]


def test_who_goes_on_as_another_begins_behind_its_blocks() -> None:
    first, second = Prompt([1, 2, 3, 4, 5], (0, 1)), Prompt([1, 2, 3, 4, 6, 7], (2, 3))
    assert planned(first, second) == [(0, 5, (0, 1)), (4, 6, (0, 3))]


def test_the_last_token_is_computed_for_each() -> None:
    first, second = Prompt([1, 2, 3, 4, 5, 6, 7, 8], (0, 1)), Prompt([1, 2, 3, 4, 5, 6, 7, 8], (2, 3))
    assert planned(first, second) == [(0, 8, (0, 1)), (4, 8, (0, 3))]


def test_what_a_step_has_no_room_for_is_waited_for() -> None:
    first, second = Prompt([1, 2, 3, 4, 5], (0, 1)), Prompt([1, 2, 3, 4, 6, 7], (2, 3))
    assert planned(first, second, room=3) == [(0, 3, (0, 1))]
    assert planned(first, second, room=6) == [(0, 5, (0, 1)), (4, 5, (0, 3))]


def test_one_token_lends_nothing() -> None:
    """In a step of single tokens each is attended to as soon as it is computed, whoever else is not yet."""
    first, second = Prompt([1, 2, 3, 4], (0,), computed=3), Prompt([1, 2, 3, 4, 5], (1, 2))
    assert planned(first, second) == [(3, 4, (0,)), (0, 5, (1, 2))]
