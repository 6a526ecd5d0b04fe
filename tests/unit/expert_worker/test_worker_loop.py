"""The loop: which prompts run, in which batch, and which expert is next."""

from dataclasses import replace

import pytest

from coe.expert_worker.effects import Acquire, Answer, Prefetch, Release, Residency, Step
from coe.platform.errors import (
    CapacityExceeded,
)
from unit.expert_worker.worker_world import World, answer, error, make_prompt


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


def test_it_is_idle_when_no_prompt_waits_or_runs() -> None:
    world = World()
    assert world.loop.idle
    world.loop.on_prompt(make_prompt("1"), world.now)
    assert not world.loop.idle
    world.advance()
    world.grant()
    assert not world.loop.waiting
    assert not world.loop.idle
    world.finish_step()
    assert world.loop.idle


def test_depths_count_waiting_and_running_prompts() -> None:
    world = World(max_batch=1)
    world.submit(*(make_prompt(str(number), expert, tokens=2) for number, expert in enumerate("aab")))
    world.grant()
    assert world.loop.depths() == {"a": 2, "b": 1}
    world.run_out()
    assert world.loop.depths() == {}


def test_a_step_is_timed_and_is_overdue_when_a_running_deadline_passes() -> None:
    world = World(max_batch=2)
    assert (world.loop.step_s(7.0), world.loop.is_overdue(7.0)) == (0.0, False)
    world.submit(make_prompt("1", tokens=2), make_prompt("2", tokens=2, deadline=3.0), make_prompt("3", deadline=2.0))
    world.now = 1.0
    world.grant()
    assert world.loop.step_s(2.5) == 1.5
    assert not world.loop.is_overdue(2.5)
    assert world.loop.is_overdue(3.0)
    world.finish_step()
    world.run_out()
    assert world.loop.step_s(9.0) == 0.0


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


def test_steps_continue_after_a_sequence_ends_if_nobody_waits_for_its_place() -> None:
    world = World(max_batch=2)
    world.submit(make_prompt("1", tokens=1), make_prompt("2", tokens=5), make_prompt("3", tokens=2))
    world.submit(make_prompt("4", "b"))
    world.grant()
    assert world.step is not None
    assert not world.step.closed
    world.finish_step(goes_on=True)
    assert world.step.closed
    assert [prompt.key for prompt in world.step.join] == ["3"]
    for _ in range(4):
        world.finish_step(goes_on=True)
    assert world.joined[-1][1].key == "3", "the loop was not asked between"
    assert world.asked == ["b"]
    assert {key: answer(world, key).text for key in ("1", "2", "3")} == {"1": "t", "2": "ttttt", "3": "tt"}


def test_a_postponed_prompt_ends_a_run_of_steps() -> None:
    world = World(max_batch=3, room=2)
    world.submit(make_prompt("1", tokens=1), make_prompt("2", tokens=5), make_prompt("3", tokens=1))
    world.grant()
    world.finish_step(goes_on=True)
    assert world.step is not None
    assert [prompt.key for prompt in world.step.join] == ["3"]


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


def test_a_prefetch_without_effect_is_repeated_with_the_next_batch() -> None:
    world = World(max_batch=1)
    world.submit(*(make_prompt(expert, expert, tokens=3) for expert in "abc"))
    world.run_out()
    assert prefetched(world) == ["b", "c", "c"]


def test_the_lease_request_carries_the_popularity_of_each_expert() -> None:
    world = World()
    world.submit(*(make_prompt(str(number), expert) for number, expert in enumerate("aaab")))
    (acquire,) = world.log
    assert isinstance(acquire, Acquire)
    wanted = {use.expert: use.probability for use in acquire.forecast}
    assert wanted == {"a": pytest.approx(0.75, abs=0.01), "b": pytest.approx(0.25, abs=0.01)}


def test_a_resident_expert_is_not_prefetched() -> None:
    world = World(max_batch=1)
    world.loop.on_residency("b", 10, Residency.RESIDENT, world.now)
    world.submit(make_prompt("1", "a", tokens=3), make_prompt("2", "b"))
    world.run_out()
    assert "b" not in prefetched(world)


def test_experts_resident_in_a_previous_tier_manager_are_prefetched() -> None:
    world = World(max_batch=1)
    world.loop.on_attached(1)
    for expert in "ab":
        world.loop.on_residency(expert, 10, Residency.RESIDENT, world.now)
    world.loop.on_attached(1)
    world.submit(make_prompt("1", "a", tokens=3), make_prompt("2", "b"))
    world.grant()
    assert prefetched(world) == []
    world.epoch = 2
    world.leases.clear()
    world.loop.on_attached(2)
    world.finish_step()
    world.grant()
    assert prefetched(world) == ["b"]


def test_the_policy_by_name_decides_the_order() -> None:
    world = World(max_batch=2, policy="samba-coe")
    world.submit(make_prompt("1", "a"), make_prompt("2", "b", at=0.1), make_prompt("3", "a", at=0.2))
    world.run_out()
    assert list(world.finished) == ["1", "2", "3"]


def test_a_recalled_expert_is_released_although_more_prompts_wait() -> None:
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


def test_recalls_and_imports_of_other_experts_do_not_affect_the_batch() -> None:
    world = World(max_batch=2)
    world.submit(make_prompt("1", "a", tokens=3))
    world.grant(bundle="known")
    world.apply(world.loop.on_residency("b", 10, Residency.LEAVING, world.now))
    world.submit(replace(make_prompt("other", "b"), bundle="new"))
    world.submit(replace(make_prompt("2", "a"), bundle="known"))
    world.finish_step()
    assert [prompt.key for _, prompt in world.joined] == ["1", "2"]


def test_an_expert_no_longer_recalled_admits_prompts_again() -> None:
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


def test_a_prompt_without_room_waits_for_a_sequence_to_end_and_keeps_its_numbering() -> None:
    world = World(max_batch=4, room=1)
    world.submit(make_prompt("1", tokens=2), make_prompt("2", tokens=1), make_prompt("3", tokens=1))
    world.run_out()
    assert world.outcomes == {"1": 1, "2": 1, "3": 1}
    assert all(isinstance(finish.result, Answer) for finish in world.finished.values())
    assert list(world.finished) == ["1", "2", "3"]
    assert all(numbers == list(range(len(numbers))) for numbers in world.chunks.values())


def test_no_prompt_overtakes_a_postponed_one() -> None:
    world = World(max_batch=4, room=1)
    world.submit(make_prompt("1", tokens=3), make_prompt("2"))
    world.grant()
    world.finish_step()
    world.submit(make_prompt("3"))
    world.finish_step()
    assert [prompt.key for _, prompt in world.joined] == ["1", "2"]
    world.run_out()
    assert list(world.finished) == ["1", "2", "3"]


@pytest.mark.parametrize("others", [(), ("3",)])
def test_a_refused_prompt_is_postponed_if_a_sequence_left_during_the_step(others: tuple[str, ...]) -> None:
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


def test_nothing_starts_while_a_step_runs() -> None:
    world = World()
    world.submit(make_prompt("1", tokens=2))
    world.grant()
    world.submit(make_prompt("2", "b"), make_prompt("3"))
    assert sum(isinstance(effect, Step) for effect in world.log) == 1
