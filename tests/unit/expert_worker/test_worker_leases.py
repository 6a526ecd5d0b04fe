"""The worker and its leases: refused, pending, and on an arena that has been replaced."""

import pytest

from coe.expert_worker import resident
from coe.expert_worker.effects import Residency
from coe.platform.errors import ChecksumMismatch
from unit.expert_worker.worker_rig import Rig, assigned, put_stuck


async def test_a_damaged_bundle_ends_the_prompts_of_that_expert() -> None:
    rig = Rig()
    rig.leases.refusal = ChecksumMismatch("weights.coe is damaged")
    async with rig.running():
        assert (await rig.bus.completed(rig.bus.put(assigned("r")))).error.code == "checksum_mismatch"
        rig.leases.refusal = None
        assert (await rig.bus.completed(rig.bus.put(assigned("s")))).completion.text == "ttt"


async def test_the_lease_of_a_cancelled_prompt_is_not_waited_for() -> None:
    rig = Rig()
    rig.leases.stuck.add("a")
    async with rig.running():
        stuck = await put_stuck(rig)
        other = rig.bus.put(assigned("other", expert="b"))
        rig.bus.cancel("r")
        assert (await rig.bus.completed(stuck)).error.code == "cancelled"
        assert (await rig.bus.completed(other)).completion.text == "ttt"
        assert not rig.leases.waiting
    assert rig.leases.held == {}


async def test_an_expert_whose_disk_hangs_does_not_delay_other_experts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "LATE_S", 0.05)
    rig = Rig()
    rig.leases.stuck.add("a")
    async with rig.running():
        stuck = await put_stuck(rig)
        rig.worker.residency_changed("a", 10, Residency.LOADING)
        for number in range(3):
            other = rig.bus.put(assigned(f"other-{number}", expert="b"))
            assert (await rig.bus.completed(other)).completion.text == "ttt"
        assert stuck not in rig.bus.ended
        rig.leases.stuck.clear()
        rig.bus.put(assigned("last", expert="b"))
        assert (await rig.bus.completed(stuck)).completion.text == "ttt"
    assert rig.leases.held == {}


async def test_an_arena_is_bound_between_steps_and_old_leases_are_not_used_in_it() -> None:
    rig = Rig()
    bound: list[int] = []
    async with rig.running():
        rig.worker.attached(1, "host", lambda: None)
        offset = rig.bus.put(assigned("r", max_tokens=50))
        await rig.bus.until(lambda: len(rig.bus.posted) > 3)
        rig.leases.epoch = 2
        rig.worker.attached(2, "host", lambda: bound.extend(rig.runners["a"].leases))
        done = await rig.bus.completed(offset)
    leases = rig.runners["a"].leases
    assert done.completion.text == "t" * 50
    assert leases[: len(bound)] == [1] * len(bound)
    assert set(leases[len(bound) :]) == {2}
    assert done.tiers.tier_profile == "host"
