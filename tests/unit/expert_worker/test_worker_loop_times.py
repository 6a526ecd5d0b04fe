"""The loop: where a prompt's time went, and what loading its weights cost."""

from dataclasses import replace

import pytest

from coe.expert_worker.batch import Batch
from coe.expert_worker.effects import Finish, Grant, Residency
from unit.expert_worker.worker_world import FakeEmission, World, make_prompt


def test_times_of_a_prompt_add_up() -> None:
    """What it took to get here counts for its first token and in all."""
    world = World(max_batch=1, now=10.0)
    world.submit(*(replace(make_prompt(key, tokens=3, at=10.0), submitted_at=8.0) for key in ("1", "2")))
    world.now = 12.0
    world.grant()
    world.run_out(seconds_a_step=1.0)
    first, second = (world.finished[key].spent for key in ("1", "2"))
    assert (first.queue_s, first.load_s, first.prefill_s, first.decode_s, first.total_s) == (0.0, 2.0, 1.0, 2.0, 7.0)
    assert (first.found_in, first.bytes_copied, first.time_to_first_token_s) == ("ddr", 10, 5.0)
    assert (second.queue_s, second.load_s, second.prefill_s, second.decode_s, second.total_s) == (3, 2, 1, 2, 10)
    assert (second.bytes_copied, second.copy_s, second.modelled_copy_s) == (0, 0.0, 0.0)


def test_times_of_a_prompt_that_got_no_token() -> None:
    world = World(max_batch=1, now=10.0)
    world.submit(*(replace(make_prompt(key, tokens=3, at=10.0), submitted_at=8.0) for key in ("runs", "waits")))
    world.now = 12.0
    world.grant()
    world.now = 13.0
    for key in ("runs", "waits"):
        world.apply(world.loop.on_cancel(key, world.now))
    runs, waits = (world.finished[key].spent for key in ("runs", "waits"))
    assert (runs.prefill_s, runs.decode_s, runs.time_to_first_token_s, runs.total_s) == (1.0, 0.0, 0.0, 5.0)
    assert (waits.queue_s, waits.load_s, waits.total_s) == (3.0, 0.0, 5.0)


def test_a_step_without_a_token_counts_as_prefill() -> None:
    batch = Batch("a", 0.0)
    batch.granted(Grant(1, 1, 1, "hbm"), 0.0)
    batch.join(make_prompt("1"), 0.0)
    batch.on_emissions([FakeEmission("1", "", 0, 3, 0, None, "")], 1.0)
    (finished,) = batch.on_emissions([FakeEmission("1", "t", 1, 3, 1, "stop", "t")], 3.0)
    assert isinstance(finished, Finish)
    assert (finished.spent.prefill_s, finished.spent.decode_s) == (3.0, 0.0)


def test_a_copy_is_charged_to_one_prompt() -> None:
    world = World()
    world.submit(make_prompt("1"), make_prompt("2"))
    world.run_out()
    assert sorted(finish.spent.bytes_copied for finish in world.finished.values()) == [0, 10]
    assert {finish.spent.found_in for finish in world.finished.values()} == {"ddr"}


def test_the_copy_time_is_reported_to_the_prompt_that_caused_it() -> None:
    world = World()
    world.submit(make_prompt("1"))
    world.loop.on_residency("a", 10, Residency.LOADING, 1.0)
    world.grant()
    for residency in (Residency.RESIDENT, Residency.LEAVING, Residency.RESIDENT):
        world.loop.on_residency("a", 10, residency, 1.5)
    world.run_out()
    assert world.finished["1"].spent.copy_s == 0.5


def test_durations_of_loads_steps_and_batches_and_answer_lengths_are_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()
    costs, seen = world.expected.costs, []
    for name in ("saw_step", "saw_answer"):
        monkeypatch.setattr(world.expected, name, lambda *given, name=name: seen.append((name, *given)))
    world.submit(make_prompt("1", tokens=3), make_prompt("2", tokens=2))
    world.loop.on_residency("a", 10, Residency.LOADING, 0.0)
    world.loop.on_residency("a", 10, Residency.RESIDENT, 5.0)
    assert costs.load_s("a") == 5.0
    world.now, unseen_s = 5.0, costs.run_s("a", 2)
    world.grant()
    world.run_out(seconds_a_step=1.0)
    # The first step is of the prompts.
    assert seen == [("saw_step", 2, 2, 1.0), ("saw_answer", 2), ("saw_step", 1, 1, 1.0), ("saw_answer", 3)]
    assert costs.run_s("a", 2) > unseen_s
