"""What the loop expects, from what it saw."""

import pytest

from coe.expert_worker.batch import Sequence
from coe.expert_worker.effects import Residency
from coe.expert_worker.expected import Expected
from coe.scheduling import Exponential, LearnedCosts
from unit.expert_worker.worker_world import World, make_prompt


def remaining_s(world: World, tokens: int) -> float:
    """Of one sequence of so many tokens at most, that has none."""
    return world.expected.remaining_s([Sequence(make_prompt("1", tokens=tokens), 0.0, 0.0, "hbm", None)])


def test_the_loop_learns_what_steps_take_that_compute_no_prompt() -> None:
    world = World()
    for number in range(30):
        world.submit(make_prompt(str(number), tokens=20, at=world.now))
        world.grant()
        world.now += 9.0
        world.finish_step()
        world.run_out(seconds_a_step=0.5)
    assert remaining_s(world, 1) == pytest.approx(0.5)


def test_the_loop_learns_how_long_answers_are() -> None:
    world = World()
    for number in range(60):
        world.submit(make_prompt(str(number), tokens=8, at=world.now))
        world.run_out(seconds_a_step=0.1)
    assert remaining_s(world, 1000) / remaining_s(world, 1) == pytest.approx(8, rel=0.02)


def test_the_loop_learns_what_batches_take() -> None:
    world = World()
    for number in range(60):
        world.submit(make_prompt(str(number), tokens=4, at=world.now))
        world.run_out(seconds_a_step=0.5)
    assert world.expected.costs.run_s("any", 1) == pytest.approx(2.0)


def test_the_loop_learns_what_loads_take() -> None:
    world = World()
    world.loop.on_residency("b", 10, Residency.LOADING, 1.0)
    world.loop.on_residency("b", 10, Residency.RESIDENT, 3.5)
    assert world.expected.costs.load_s("any") == pytest.approx(2.5)


def test_steps_that_bring_several_tokens_end_answers_sooner() -> None:
    live = [Sequence(make_prompt("1", tokens=100), 0.0, 0.0, "hbm", None)]
    remaining = []
    for tokens in (1, 2):
        expected = Expected(LearnedCosts(lambda _: 0, 4), Exponential(), 4)
        for _ in range(500):
            expected.saw_step(1, tokens, 0.01)
        remaining.append(expected.remaining_s(live))
    assert remaining[1] == pytest.approx(remaining[0] / 2, rel=0.01)
