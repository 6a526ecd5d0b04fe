"""The loop: what a prompt's time went to, and what its weights cost."""

from coe.expert_worker.effects import Residency
from unit.expert_worker.worker_world import World, make_prompt


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
    for residency in (Residency.RESIDENT, Residency.LEAVING, Residency.RESIDENT):
        world.loop.on_residency("a", 10, residency, 1.5)
    world.run_out()
    assert world.finished["1"].spent.copy_s == 0.5
