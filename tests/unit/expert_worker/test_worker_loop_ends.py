"""The loop: prompts that end without an answer, without affecting others."""

import pytest

from coe.expert_worker import tombstones
from coe.expert_worker.effects import Answer, Discard, StepDone
from coe.platform.errors import (
    Cancelled,
    CapacityExceeded,
    DeadlineExceeded,
    InternalError,
    InvalidPrompt,
    NumericalError,
)
from coe.scheduling import ExpertQueues
from unit.expert_worker.worker_world import FakeEmission, World, answer, error, make_prompt


def test_an_expired_deadline_ends_waiting_and_running_prompts() -> None:
    world = World(max_batch=1)
    world.submit(
        make_prompt("run", tokens=9, deadline=5.0), make_prompt("wait", deadline=5.0), make_prompt("fine", tokens=1)
    )
    world.grant()
    world.finish_step()
    world.now = 5.0
    world.apply(world.loop.on_tick(world.now))
    assert isinstance(error(world, "wait"), DeadlineExceeded)
    assert "run" not in world.finished, "its step is under way"
    world.run_out()
    assert isinstance(error(world, "run"), DeadlineExceeded)
    assert answer(world, "fine").completion_tokens == 1
    assert all(not live for live in world.engine.values())
    world.submit(make_prompt("late", deadline=4.0))
    assert isinstance(error(world, "late"), DeadlineExceeded)


def test_cancellation_reaches_waiting_running_and_future_prompts() -> None:
    world = World(max_batch=1)
    world.submit(make_prompt("1", tokens=9), make_prompt("2"))
    world.grant()
    for request_id in ("1", "2", "3"):
        world.apply(world.loop.on_cancel(request_id, world.now))
    world.submit(make_prompt("3"))
    assert all(isinstance(error(world, key), Cancelled) for key in "123")
    world.run_out()
    assert world.outcomes == {"1": 1, "2": 1, "3": 1}
    assert world.engine == {"a": {}}


def test_a_cancellation_applies_to_one_prompt_only() -> None:
    world = World()
    world.submit(make_prompt("1", request_id="r"))
    world.apply(world.loop.on_cancel("r", world.now))
    world.submit(make_prompt("2", request_id="r"))
    world.run_out()
    assert isinstance(error(world, "1"), Cancelled)
    assert answer(world, "2").text == "t"


def test_a_cancellation_applies_only_to_prompts_submitted_before_it() -> None:
    world = World()
    world.apply(world.loop.on_cancel("waited", world.now))
    world.apply(world.loop.on_cancel("again", world.now))
    world.now = 3600.0
    world.submit(make_prompt("waited", at=0.0), make_prompt("again", at=3600.0))
    assert isinstance(error(world, "waited"), Cancelled)
    world.run_out()
    assert answer(world, "again").completion_tokens == 1


def test_only_the_latest_early_cancellations_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tombstones, "MAX_TOMBSTONES", 2)
    world = World()
    for name in ("first", "again", "first", "last"):
        world.apply(world.loop.on_cancel(name, world.now))
    world.submit(*map(make_prompt, ("first", "again", "last")))
    world.run_out()
    assert {key for key, end in world.finished.items() if isinstance(end.result, Cancelled)} == {"first", "last"}


def test_cancellations_of_overlong_request_ids_are_not_remembered() -> None:
    world = World()
    longest, longer = "a" * 256, "b" * 257
    for name in (longest, longer):
        world.apply(world.loop.on_cancel(name, world.now))
    world.submit(make_prompt(longest), make_prompt(longer))
    assert isinstance(error(world, longest), Cancelled)
    world.run_out()
    assert answer(world, longer).completion_tokens == 1


def test_a_prompt_that_finds_no_room_to_wait_ends_alone() -> None:
    world = World()
    world.loop.waiting.queues = ExpertQueues(capacity=1)
    world.submit(make_prompt("1"), make_prompt("2"))
    assert isinstance(error(world, "2"), CapacityExceeded)
    world.run_out()
    assert answer(world, "1").text == "t"


def test_an_engine_fault_ends_the_sequences_of_its_expert_only() -> None:
    world = World()
    world.submit(make_prompt("1", "a", tokens=3), make_prompt("2", "a", tokens=3), make_prompt("3", "b"))
    world.grant("hbm")
    world.finish_step(InternalError("boom"))
    assert Discard("a") in world.log
    world.run_out()
    assert [type(world.finished[key].result) for key in "123"] == [InternalError, InternalError, Answer]
    assert world.leases == {}


def test_a_sequence_that_breaks_ends_alone() -> None:
    world = World()
    world.submit(make_prompt("1", tokens=3), make_prompt("2", tokens=3))
    world.grant("hbm")
    world.finish_step()
    world.finish_step(broken="1")
    assert isinstance(error(world, "1"), NumericalError)
    world.run_out()
    assert answer(world, "2").text == "ttt"
    assert Discard("a") not in world.log


def test_revoked_prompts_leave_without_an_event() -> None:
    world = World(max_batch=1)
    world.submit(make_prompt("1", tokens=9), make_prompt("2"))
    world.grant()
    world.loop.on_revoked({"1", "2"})
    world.run_out()
    assert world.outcomes == {}
    assert world.engine == {"a": {}}
    assert world.loop.idle


def test_a_prompt_without_room_can_be_cancelled() -> None:
    world = World(max_batch=4, room=1)
    world.submit(make_prompt("1", tokens=3), make_prompt("2"))
    world.grant()
    world.finish_step()
    world.apply(world.loop.on_cancel("2", world.now))
    assert isinstance(error(world, "2"), Cancelled)
    world.run_out()
    assert world.outcomes == {"1": 1, "2": 1}


def test_a_prompt_that_the_engine_refuses_ends_whoever_runs_beside_it() -> None:
    world = World(max_batch=4)
    world.submit(make_prompt("1", tokens=3), make_prompt("2"))
    world.grant()
    world.step = None
    refused = [("2", InvalidPrompt("longer than the context"))]
    world.apply(world.loop.on_step(StepDone("a", [FakeEmission("1", "t", 1, 3, 1, None, "")], refused), world.now))
    assert isinstance(error(world, "2"), InvalidPrompt)
    assert "1" not in world.finished


def test_a_prompt_without_room_that_is_revoked_leaves_too() -> None:
    world = World(max_batch=4, room=1)
    world.submit(make_prompt("1", tokens=3), make_prompt("2"), make_prompt("3"))
    world.grant()
    world.finish_step()
    world.loop.on_revoked({"2"})
    world.run_out()
    assert world.outcomes == {"1": 1, "3": 1}


def test_drain_finishes_what_runs_and_hands_back_the_rest() -> None:
    world = World(max_batch=1)
    world.submit(make_prompt("1", tokens=3), make_prompt("2"))
    world.grant()
    world.loop.drain()
    world.run_out()
    assert set(world.finished) == {"1"}
    assert world.loop.idle
