"""The loop's estimates, learned from what it has seen."""

import pytest

from coe.expert_worker.batch import Batch, Sequence
from coe.expert_worker.effects import Grant, Residency
from coe.expert_worker.expected import Expected
from coe.scheduling import Exponential, LearnedCosts
from unit.expert_worker.worker_world import World, make_prompt


def remaining_s(world: World, tokens: int) -> float:
    """Of one sequence of so many tokens at most, that has none."""
    return world.expected.remaining_s([Sequence(make_prompt("1", tokens=tokens), 0.0, 0.0, "hbm", None)])


def test_the_loop_learns_the_time_of_pure_decode_steps() -> None:
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


def test_remaining_time_is_that_of_the_longest_sequence() -> None:
    expected = Expected(LearnedCosts(lambda _: 0, 4), Exponential(), 4)
    for _ in range(50):
        expected.saw_step(2, 4, 0.1)
    live = [Sequence(make_prompt(str(most), tokens=most), 0.0, 0.0, "hbm", None, tokens=4) for most in (10, 6)]
    # Each of two sequences had two tokens in 0.1 s: another one takes half of it, and six are left.
    assert expected.remaining_s(live) == pytest.approx(0.3)
    live[0].tokens = live[1].tokens = 100
    assert expected.remaining_s(live) == pytest.approx(0.05), "it goes on, so one more"
    assert expected.remaining_s([]) == 0.0


def test_a_refilled_batch_counts_as_several(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, float]] = []
    costs = LearnedCosts(lambda _: 0, 2)
    monkeypatch.setattr(costs, "observe_batch", lambda prompts, seconds: seen.append((prompts, seconds)))
    expected = Expected(costs, Exponential(), 2)
    batch = Batch("a", 0.0)
    batch.granted(Grant(1, 1, 1, "hbm"), 1.0)
    expected.saw_batch(batch, 7.0)
    batch.served = 5
    expected.saw_batch(batch, 1.0)
    assert seen == [], "of nobody, and of no time, there is nothing to learn"
    expected.saw_batch(batch, 7.0)
    assert seen == [(2, 2.0)]


def test_the_loop_learns_the_time_of_batches() -> None:
    world = World()
    for number in range(60):
        world.submit(make_prompt(str(number), tokens=4, at=world.now))
        world.run_out(seconds_a_step=0.5)
    assert world.expected.costs.run_s("any", 1) == pytest.approx(2.0)


def test_the_loop_learns_the_time_of_loads() -> None:
    world = World()
    world.loop.on_residency("b", 10, Residency.LOADING, 1.0)
    world.loop.on_residency("b", 10, Residency.RESIDENT, 3.5)
    assert world.expected.costs.load_s("any") == pytest.approx(2.5)


def test_steps_with_several_tokens_per_sequence_shorten_the_remaining_time() -> None:
    live = [Sequence(make_prompt("1", tokens=100), 0.0, 0.0, "hbm", None)]
    remaining = []
    for tokens in (1, 2):
        expected = Expected(LearnedCosts(lambda _: 0, 4), Exponential(), 4)
        for _ in range(500):
            expected.saw_step(1, tokens, 0.01)
        remaining.append(expected.remaining_s(live))
    assert remaining[1] == pytest.approx(remaining[0] / 2, rel=0.01)
