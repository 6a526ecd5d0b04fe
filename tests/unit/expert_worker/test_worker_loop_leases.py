"""The loop and its leases: abandoned, late, lost, refused, or on reimported weights."""

from dataclasses import replace

import pytest

from coe.expert_worker.effects import Abandon, Acquire, Discard, Grant, Prefetch, Release, Residency
from coe.platform.errors import (
    ChecksumMismatch,
    InternalError,
    LeaseLost,
)
from unit.expert_worker.worker_world import World, answer, error, make_prompt


def test_a_lease_request_without_waiting_prompts_is_abandoned() -> None:
    """Its expert may take a minute to come, and others have work."""
    world = World()
    world.submit(make_prompt("1", "a", request_id="r"), make_prompt("2", "b", deadline=2.0))
    assert world.asked == ["a"]
    world.apply(world.loop.on_cancel("r", world.now))
    world.advance()
    assert world.log[-3:-1] == [Abandon("a"), Discard("a")]
    assert Prefetch("a") not in world.log
    assert world.asked == ["b"]
    world.now = 2.0
    world.advance()
    assert world.asked == []
    assert world.loop.idle
    world.submit(make_prompt("3", "a"))
    world.run_out()
    assert answer(world, "3").completion_tokens == 1


def test_a_grant_that_arrives_after_its_request_was_abandoned_is_released() -> None:
    world = World()
    world.submit(make_prompt("1", "a", request_id="r"))
    world.apply(world.loop.on_cancel("r", world.now))
    world.advance()
    grant = Grant(9, handle=7, epoch=1, found_in="hbm")
    assert world.loop.on_granted("a", grant, world.now) == [Release("a", grant)]


def test_a_refusal_that_arrives_after_its_request_was_abandoned_is_ignored() -> None:
    world = World()
    refusal = ChecksumMismatch("chunk 3 of a")
    assert world.loop.on_refused("a", refusal, world.now) == []
    world.submit(make_prompt("1", "b"), make_prompt("2", "a"))
    assert world.loop.on_refused("a", refusal, world.now) == []
    world.grant()
    assert world.loop.on_refused("b", refusal, world.now) == []
    world.run_out()
    assert all(answer(world, key) for key in "12")


def test_a_grant_that_another_batch_did_not_ask_for_is_released() -> None:
    world = World()
    world.submit(make_prompt("1", "b"))
    late = Grant(9, handle=7, epoch=1, found_in="hbm")
    assert world.loop.on_granted("a", late, world.now) == [Release("a", late)]
    world.grant()
    assert world.loop.on_granted("b", late, world.now) == [Release("b", late)]
    world.run_out()
    assert answer(world, "1")


def test_late_weights_do_not_delay_other_experts_and_continue_loading() -> None:
    world = World()
    world.submit(make_prompt("hung", "a"))
    world.apply(world.loop.on_residency("a", 10, Residency.LOADING, world.now))
    world.now = 0.5
    world.submit(make_prompt("other", "b", at=0.5))
    assert world.asked == ["a"], "it may come yet"
    assert Abandon("a") not in world.log
    world.now = 1.5
    world.advance()
    assert world.asked == ["b"]
    assert world.log[-4:] == [Prefetch("a"), Abandon("a"), Discard("a"), world.log[-1]]
    world.grant()
    world.finish_step()
    assert "other" in world.finished
    assert world.asked == ["a"], "nobody else waits"
    before = len(world.log)
    world.now = 9.0
    world.advance()
    assert len(world.log) == before, "it is not asked for anew"
    world.now = 1.5
    world.submit(make_prompt("third", "c", at=1.5), make_prompt("fourth", "b", at=1.5))
    world.apply(world.loop.on_residency("b", 10, Residency.RESIDENT, world.now))
    world.run_out()
    assert list(world.finished) == ["other", "third", "fourth", "hung"]


def test_among_experts_that_are_not_late_those_in_hbm_run_first() -> None:
    world = World()
    world.apply(world.loop.on_residency("a", 10, Residency.LOADING, world.now))
    world.apply(world.loop.on_residency("c", 10, Residency.RESIDENT, world.now))
    world.now = 2.0
    for key, expert in (("0", "a"), ("1", "b"), ("2", "c")):
        world.apply(world.loop.on_prompt(make_prompt(key, expert, at=2.0), world.now))
    world.apply(world.loop.on_residency("a", 10, Residency.LOADING, world.now))
    world.advance()
    assert world.asked == ["c"]


def test_a_load_that_has_ended_is_no_longer_late() -> None:
    world = World()
    world.submit(make_prompt("hung", "a"))
    world.apply(world.loop.on_residency("a", 10, Residency.LOADING, world.now))
    world.now = 5.0
    world.apply(world.loop.on_residency("a", 10, Residency.RESIDENT, world.now))
    world.submit(make_prompt("other", "b", at=5.0))
    assert world.asked == ["a"]


def test_a_started_sequence_keeps_its_place_although_its_weights_are_late() -> None:
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


def test_occasionally_lost_leases_end_no_prompt() -> None:
    world = World()
    world.submit(make_prompt("1", tokens=12))
    world.grant()
    for _ in range(5):
        world.finish_step()
        world.finish_step(LeaseLost("stale lease"))
        world.grant()
        world.finish_step(LeaseLost("stale lease"))
        world.grant()
    world.run_out()
    assert answer(world, "1").completion_tokens == 12


def test_a_fault_after_a_successful_step_is_not_a_failed_load() -> None:
    world = World()
    world.submit(make_prompt("1", tokens=3))
    world.grant("ddr")
    world.finish_step()
    world.finish_step(InternalError("the graph failed"))
    assert isinstance(error(world, "1"), InternalError)
    assert world.asked == []


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


def test_a_prompt_that_arrives_after_a_reimport_waits_for_the_new_weights() -> None:
    world = World(max_batch=4)
    world.submit(replace(make_prompt("1", tokens=3), bundle="old"))
    world.grant("hbm", bundle="old")
    world.finish_step()
    world.submit(replace(make_prompt("2"), bundle="new"))
    world.finish_step()
    world.submit(replace(make_prompt("3"), bundle="old"))
    world.finish_step()
    assert list(world.finished) == ["1"]
    assert world.asked == ["a"]
    world.grant("disk", bundle="new")
    world.run_out()
    assert {key: answer(world, key).text for key in "23"} == {"2": "t", "3": "t"}


@pytest.mark.parametrize("leased", ["same", ""], ids=["same", "unknown"])
def test_a_prompt_with_the_same_bundle_joins(leased: str) -> None:
    world = World(max_batch=4)
    world.submit(replace(make_prompt("1", tokens=3), bundle="same"))
    world.grant("hbm", bundle=leased)
    world.finish_step()
    world.submit(replace(make_prompt("2"), bundle="same"))
    world.finish_step()
    assert [prompt.key for _, prompt in world.joined] == ["1", "2"]


def test_a_lease_on_replaced_weights_is_requested_again_and_no_prompt_is_lost() -> None:
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


def test_a_refused_lease_ends_every_prompt_waiting_for_that_expert() -> None:
    world = World()
    world.submit(make_prompt("1", "a"), make_prompt("2", "a"), make_prompt("3", "b"))
    world.refuse(ChecksumMismatch("chunk 3 of a"))
    assert all(isinstance(error(world, key), ChecksumMismatch) for key in "12")
    world.run_out()
    assert answer(world, "3")
