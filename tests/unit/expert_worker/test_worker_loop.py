"""The loop, event by event."""

from dataclasses import replace

import pytest

from coe.expert_worker.effects import Abandon, Acquire, Answer, Discard, Grant, Prefetch, Release, Residency, Step
from coe.platform.errors import (
    Cancelled,
    CapacityExceeded,
    ChecksumMismatch,
    CoEError,
    DeadlineExceeded,
    InternalError,
    LeaseLost,
    NumericalError,
)
from unit.expert_worker.worker_world import World, make_prompt


def answer(world: World, key: str) -> Answer:
    result = world.finished[key].result
    assert isinstance(result, Answer)
    return result


def error(world: World, key: str) -> CoEError:
    result = world.finished[key].result
    assert isinstance(result, CoEError)
    return result


def test_one_prompt_is_leased_run_and_answered_once() -> None:
    world = World()
    world.submit(make_prompt("1", tokens=3))
    assert world.asked == ["a"]
    world.run_out()
    assert answer(world, "1") == Answer("ttt", "length", 3, 3)
    assert world.outcomes == {"1": 1}
    assert world.chunks["1"] == [0, 1, 2, 3], "loading, then the text, numbered without gaps"
    assert isinstance(world.log[-1], Release)
    assert world.loop.idle


def test_prompts_of_one_expert_share_a_batch_and_others_join_as_sequences_end() -> None:
    world = World(max_batch=2)
    world.submit(make_prompt("1", tokens=1), make_prompt("2", tokens=5), make_prompt("3", tokens=1))
    world.grant()
    world.finish_step()
    assert world.step is not None
    assert [prompt.key for prompt in world.step.join] == ["3"]
    world.run_out()
    assert set(world.finished) == {"1", "2", "3"}
    assert sum(isinstance(effect, Acquire) for effect in world.log) == 1


def test_the_lease_is_kept_until_the_last_sequence_ends_then_the_next_expert_is_leased() -> None:
    world = World()
    world.submit(make_prompt("1", "a", tokens=2), make_prompt("2", "b"))
    world.grant()
    world.finish_step()
    assert not any(isinstance(effect, Release) for effect in world.log)
    world.finish_step()
    assert [type(effect) for effect in world.log[-2:]] == [Release, Acquire]
    world.run_out()
    assert world.leases == {}


def prefetched(world: World) -> list[str]:
    return [effect.expert_id for effect in world.log if isinstance(effect, Prefetch)]


def test_the_next_expert_is_prefetched_once_while_the_batch_runs() -> None:
    world = World(max_batch=1)
    world.submit(make_prompt("1", "a", tokens=3), make_prompt("2", "b"))
    world.run_out()
    assert prefetched(world) == ["b"]


def test_a_resident_expert_is_not_prefetched() -> None:
    world = World(max_batch=1)
    world.loop.on_residency("b", 10, Residency.RESIDENT, world.now)
    world.submit(make_prompt("1", "a", tokens=3), make_prompt("2", "b"))
    world.run_out()
    assert "b" not in prefetched(world)


def test_the_policy_by_name_decides_the_order() -> None:
    world = World(max_batch=2, policy="samba-coe")
    world.submit(make_prompt("1", "a"), make_prompt("2", "b", at=0.1), make_prompt("3", "a", at=0.2))
    world.run_out()
    assert list(world.finished) == ["1", "2", "3"]


def test_a_recalled_expert_is_given_back_though_its_prompts_go_on() -> None:
    world = World(max_batch=2)
    world.submit(make_prompt("1", "a", tokens=3))
    world.grant()
    world.apply(world.loop.on_residency("a", 10, Residency.LEAVING, world.now))
    world.submit(make_prompt("2", "a"))
    for _ in range(3):
        assert world.step is not None
        assert "2" not in [prompt.key for prompt in world.step.join]
        world.finish_step()
    assert set(world.finished) == {"1"}
    assert [type(effect) for effect in world.log[-2:]] == [Release, Acquire]
    world.run_out()
    assert set(world.finished) == {"1", "2"}


def test_an_expert_that_is_recalled_no_more_takes_prompts_again() -> None:
    world = World(max_batch=2)
    world.submit(make_prompt("1", "a", tokens=3))
    world.grant()
    for residency in (Residency.LEAVING, Residency.RESIDENT):
        world.apply(world.loop.on_residency("a", 10, residency, world.now))
    world.submit(make_prompt("2", "a"))
    world.finish_step()
    assert world.step is not None
    assert [prompt.key for prompt in world.step.join] == ["2"]


def test_an_aged_prompt_stops_the_running_expert_from_taking_more() -> None:
    world = World(max_batch=1, max_wait_s=10)
    world.submit(make_prompt("1", "a", tokens=2), make_prompt("2", "b", at=0.5), make_prompt("3", "a", at=1.0))
    world.grant()
    world.now = 11.0
    world.finish_step()
    world.finish_step()
    assert world.asked == ["b"]


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
    world.run_out()
    assert isinstance(error(world, "run"), DeadlineExceeded)
    assert answer(world, "fine").completion_tokens == 1
    assert all(not live for live in world.engine.values())
    world.submit(make_prompt("late", deadline=4.0))
    assert isinstance(error(world, "late"), DeadlineExceeded)


def test_a_lease_that_nobody_waits_for_any_more_is_not_waited_for() -> None:
    """Its expert may take a minute to come, and others have work."""
    world = World()
    world.submit(make_prompt("1", "a", request_id="r"), make_prompt("2", "b", deadline=2.0))
    assert world.asked == ["a"]
    world.apply(world.loop.on_cancel("r", world.now))
    world.advance()
    assert world.log[-3:-1] == [Abandon("a"), Discard("a")]
    assert world.asked == ["b"]
    world.now = 2.0
    world.advance()
    assert world.asked == []
    assert world.loop.idle
    world.submit(make_prompt("3", "a"))
    world.run_out()
    assert answer(world, "3").completion_tokens == 1


def test_a_grant_that_crosses_its_abandonment_is_released() -> None:
    world = World()
    world.submit(make_prompt("1", "a", request_id="r"))
    world.apply(world.loop.on_cancel("r", world.now))
    world.advance()
    grant = Grant(9, handle=7, epoch=1, found_in="hbm")
    assert world.loop.on_granted("a", grant, world.now) == [Release("a", grant)]


def test_weights_that_are_late_keep_nobody_else_waiting_and_go_on_loading() -> None:
    world = World()
    world.submit(make_prompt("hung", "a"))
    world.apply(world.loop.on_residency("a", 10, Residency.LOADING, world.now))
    world.now = 0.5
    world.submit(make_prompt("other", "b", at=0.5))
    assert world.asked == ["a"], "it may come yet"
    world.now = 1.5
    world.advance()
    assert world.asked == ["b"]
    assert world.log[-4:] == [Prefetch("a"), Abandon("a"), Discard("a"), world.log[-1]]
    world.grant()
    world.finish_step()
    assert "other" in world.finished
    assert world.asked == ["a"], "nobody else waits"
    world.submit(make_prompt("third", "c", at=1.5), make_prompt("fourth", "b", at=1.5))
    world.apply(world.loop.on_residency("b", 10, Residency.RESIDENT, world.now))
    world.run_out()
    assert list(world.finished) == ["other", "third", "fourth", "hung"]


def test_of_those_that_are_not_late_who_is_in_hbm_goes_first() -> None:
    world = World()
    world.apply(world.loop.on_residency("a", 10, Residency.LOADING, world.now))
    world.apply(world.loop.on_residency("c", 10, Residency.RESIDENT, world.now))
    world.now = 2.0
    for key, expert in (("0", "a"), ("1", "b"), ("2", "c")):
        world.apply(world.loop.on_prompt(make_prompt(key, expert, at=2.0), world.now))
    world.apply(world.loop.on_residency("a", 10, Residency.LOADING, world.now))
    world.advance()
    assert world.asked == ["c"]


def test_a_load_that_ends_is_late_no_more() -> None:
    world = World()
    world.submit(make_prompt("hung", "a"))
    world.apply(world.loop.on_residency("a", 10, Residency.LOADING, world.now))
    world.now = 5.0
    world.apply(world.loop.on_residency("a", 10, Residency.RESIDENT, world.now))
    world.submit(make_prompt("other", "b", at=5.0))
    assert world.asked == ["a"]


def test_a_sequence_under_way_keeps_its_place_though_its_weights_are_late() -> None:
    """They were lost, and are loaded anew: its tokens so far are the batch's."""
    world = World()
    world.submit(make_prompt("r", "a", tokens=3))
    world.grant()
    world.finish_step(LeaseLost("stale"))
    world.apply(world.loop.on_residency("a", 10, Residency.LOADING, world.now))
    world.now = 9.0
    world.submit(make_prompt("other", "b", at=9.0))
    assert world.asked == ["a"]
    world.run_out()
    assert set(world.finished) == {"r", "other"}


def test_cancellation_reaches_waiting_running_and_coming_prompts() -> None:
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


def test_a_cancellation_is_of_what_was_submitted_before_it() -> None:
    world = World()
    world.apply(world.loop.on_cancel("waited", world.now))
    world.apply(world.loop.on_cancel("again", world.now))
    world.now = 3600.0
    world.submit(make_prompt("waited", at=0.0), make_prompt("again", at=3600.0))
    assert isinstance(error(world, "waited"), Cancelled)
    world.run_out()
    assert answer(world, "again").completion_tokens == 1


def test_no_cancellation_is_remembered_by_a_name_that_no_prompt_may_have() -> None:
    world = World()
    longest, longer = "a" * 256, "b" * 257
    for name in (longest, longer):
        world.apply(world.loop.on_cancel(name, world.now))
    world.submit(make_prompt(longest), make_prompt(longer))
    assert isinstance(error(world, longest), Cancelled)
    world.run_out()
    assert answer(world, longer).completion_tokens == 1


def test_a_lost_lease_is_asked_for_again_and_the_answer_goes_on() -> None:
    world = World()
    world.submit(make_prompt("1", tokens=3))
    world.grant()
    world.finish_step()
    world.finish_step(LeaseLost("stale lease"))
    assert world.asked == ["a"]
    world.run_out()
    assert answer(world, "1").text == "ttt"
    assert world.leases == {}


def test_a_lease_that_is_lost_again_and_again_ends_the_prompts() -> None:
    world = World()
    world.submit(make_prompt("1", tokens=3))
    for _ in range(4):
        world.grant()
        world.finish_step(LeaseLost("stale lease"))
    assert isinstance(error(world, "1"), LeaseLost)
    assert world.loop.idle


def test_a_new_epoch_voids_the_lease_without_a_step_on_it() -> None:
    world = World()
    world.loop.on_attached(1)
    world.submit(make_prompt("1", tokens=3))
    world.grant()
    world.epoch = 2
    world.leases.clear()
    world.loop.on_attached(2)
    world.finish_step()
    assert world.asked == ["a"]
    world.run_out()
    assert answer(world, "1").text == "ttt"


def test_a_load_that_fails_under_the_first_step_ends_with_the_manager_s_reason() -> None:
    world = World()
    world.submit(make_prompt("1", tokens=3))
    world.grant("disk")
    world.finish_step(InternalError("the graph failed"))
    assert [effect.until_resident for effect in world.log if isinstance(effect, Acquire)] == [False, True]
    world.refuse(ChecksumMismatch("chunk 3 of a"))
    assert isinstance(error(world, "1"), ChecksumMismatch)
    assert world.loop.idle


def test_an_engine_fault_ends_the_sequences_of_its_expert_only() -> None:
    world = World()
    world.submit(make_prompt("1", "a", tokens=3), make_prompt("2", "a", tokens=3), make_prompt("3", "b"))
    world.grant("hbm")
    world.finish_step(InternalError("boom"))
    assert Discard("a") in world.log
    world.run_out()
    assert [type(world.finished[key].result) for key in "123"] == [InternalError, InternalError, Answer]
    assert world.leases == {}


def test_who_comes_after_an_import_waits_for_the_new_weights() -> None:
    world = World(max_batch=4)
    world.submit(replace(make_prompt("1", tokens=3), bundle="old"))
    world.grant("hbm", bundle="old")
    world.finish_step()
    world.submit(replace(make_prompt("2"), bundle="new"), replace(make_prompt("3"), bundle="old"))
    world.finish_step()
    world.finish_step()
    assert list(world.finished) == ["1"]
    assert world.asked == ["a"]
    world.grant("disk", bundle="new")
    world.run_out()
    assert {key: answer(world, key).text for key in "23"} == {"2": "t", "3": "t"}


def test_a_lease_on_weights_that_were_replaced_is_asked_for_again_and_nobody_lost() -> None:
    world = World(max_batch=4, opens_no_runner=True)
    world.submit(make_prompt("1"), make_prompt("2"))
    world.grant("hbm", bundle="old")
    world.finish_step(LeaseLost("imported anew"))
    assert world.asked == ["a"]
    world.grant("hbm", bundle="new")
    world.finish_step()
    world.run_out()
    assert {key: answer(world, key).text for key in "12"} == {"1": "t", "2": "t"}
    assert all(numbers == list(range(len(numbers))) for numbers in world.chunks.values())


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


def test_a_refused_lease_ends_whatever_waits_for_that_expert() -> None:
    world = World()
    world.submit(make_prompt("1", "a"), make_prompt("2", "a"), make_prompt("3", "b"))
    world.refuse(ChecksumMismatch("chunk 3 of a"))
    assert all(isinstance(error(world, key), ChecksumMismatch) for key in "12")
    world.run_out()
    assert answer(world, "3")


def test_a_prompt_without_room_waits_for_a_sequence_to_end_and_keeps_its_numbering() -> None:
    world = World(max_batch=4, room=1)
    world.submit(make_prompt("1", tokens=2), make_prompt("2", tokens=1), make_prompt("3", tokens=1))
    world.run_out()
    assert world.outcomes == {"1": 1, "2": 1, "3": 1}
    assert all(isinstance(finish.result, Answer) for finish in world.finished.values())
    assert list(world.finished) == ["1", "2", "3"]
    assert all(numbers == list(range(len(numbers))) for numbers in world.chunks.values())


@pytest.mark.parametrize("others", [(), ("3",)])
def test_room_that_somebody_leaves_during_the_step_is_worth_waiting_for(others: tuple[str, ...]) -> None:
    world = World(max_batch=4, room=1 + len(others))
    world.submit(make_prompt("1", tokens=9), *(make_prompt(key, tokens=9) for key in others))
    world.grant()
    world.finish_step()
    world.submit(make_prompt("2"), make_prompt("gone"))
    world.finish_step()
    assert world.step is not None
    assert [prompt.key for prompt in world.step.join] == ["2", "gone"]
    for key in ("gone", *(others or ("1",))):
        world.apply(world.loop.on_cancel(key, world.now))
    world.run_out()
    assert answer(world, "2").text == "t"


def test_a_prompt_that_has_no_room_even_alone_ends_with_the_error() -> None:
    world = World(room=0)
    world.submit(make_prompt("1"))
    world.run_out()
    assert isinstance(error(world, "1"), CapacityExceeded)


def test_revoked_prompts_leave_without_an_event() -> None:
    world = World(max_batch=1)
    world.submit(make_prompt("1", tokens=9), make_prompt("2"))
    world.grant()
    world.loop.on_revoked({"1", "2"})
    world.run_out()
    assert world.outcomes == {}
    assert world.engine == {"a": {}}
    assert world.loop.idle


def test_drain_finishes_what_runs_and_hands_back_the_rest() -> None:
    world = World(max_batch=1)
    world.submit(make_prompt("1", tokens=3), make_prompt("2"))
    world.grant()
    world.loop.drain()
    world.run_out()
    assert set(world.finished) == {"1"}
    assert world.loop.idle


def test_times_of_a_prompt_add_up() -> None:
    world = World()
    world.submit(make_prompt("1", tokens=3))
    world.now = 2.0
    world.grant()
    world.run_out(seconds_a_step=1.0)
    spent = world.finished["1"].spent
    assert (spent.queue_s, spent.load_s, spent.prefill_s, spent.decode_s, spent.total_s) == (0.0, 2.0, 1.0, 2.0, 5.0)
    assert (spent.found_in, spent.bytes_copied, spent.time_to_first_token_s) == ("ddr", 10, 3.0)


def test_a_copy_is_charged_to_one_prompt() -> None:
    world = World()
    world.submit(make_prompt("1"), make_prompt("2"))
    world.run_out()
    assert sorted(finish.spent.bytes_copied for finish in world.finished.values()) == [0, 10]
    assert {finish.spent.found_in for finish in world.finished.values()} == {"ddr"}


def test_the_time_of_a_copy_is_told_to_the_prompt_that_caused_it() -> None:
    world = World()
    world.submit(make_prompt("1"))
    world.loop.on_residency("a", 10, Residency.LOADING, 1.0)
    world.grant()
    world.loop.on_residency("a", 10, Residency.RESIDENT, 1.5)
    world.run_out()
    assert world.finished["1"].spent.copy_s == 0.5


def test_nothing_starts_while_a_step_runs() -> None:
    world = World()
    world.submit(make_prompt("1", tokens=2))
    world.grant()
    world.submit(make_prompt("2", "b"), make_prompt("3"))
    assert sum(isinstance(effect, Step) for effect in world.log) == 1
