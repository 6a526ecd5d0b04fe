"""The externally visible state of the tiers, as protobuf messages."""

import time

from coe._proto import memory_tier_manager_pb2 as pb
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.tiers import State, Tier
from coe.memory_tier_manager.versions import name_of

_STATES = {
    State.LOADING: pb.RESIDENCY_STATE_LOADING,
    State.RESIDENT: pb.RESIDENCY_STATE_RESIDENT,
    State.FREEING: pb.RESIDENCY_STATE_EVICTING,
}
# Tier to protobuf enum value.
TIERS = {Tier.DISK: pb.TIER_DISK, Tier.DDR: pb.TIER_DDR, Tier.HBM: pb.TIER_HBM}


def residency(tiers: Tiers, expert: str, nbytes: int) -> pb.ExpertResidency:
    """The residency of this key, in the highest tier that holds its bytes or is receiving them."""
    name = name_of(expert)
    pinned = expert in tiers.pins or expert in tiers.state.unmet
    entry = tiers.hbm.entries.get(expert)
    if entry is not None:
        age_s = time.monotonic() - entry.last_used
        return pb.ExpertResidency(
            expert_id=name,
            tier=pb.TIER_HBM,
            state=pb.RESIDENCY_STATE_EVICTING if entry.recalled else _STATES[entry.state],
            bytes=nbytes,
            leases=tiers.leases.count(expert),
            pinned=pinned,
            slot=entry.slot,
            generation=entry.generation or 0,
            last_used_ms=int((time.time() - age_s) * 1000),
        )
    tier, state = pb.TIER_DISK, pb.RESIDENCY_STATE_ABSENT
    if expert in tiers.ddr.entries:
        tier = pb.TIER_DDR
        state = pb.RESIDENCY_STATE_RESIDENT if tiers.ddr.has(expert) else pb.RESIDENCY_STATE_LOADING
    return pb.ExpertResidency(expert_id=name, tier=tier, state=state, bytes=nbytes, pinned=pinned)


def present(tiers: Tiers) -> list[str]:
    """Experts with bytes in some tier."""
    whole = [name for name, entry in tiers.hbm.entries.items() if not entry.part_of]
    return list(dict.fromkeys(name_of(key) for key in (*whole, *tiers.ddr.entries)))


def usage(tiers: Tiers) -> list[pb.TierUsage]:
    counted = {pb.TIER_HBM: tiers.hits_and_misses}
    return [
        pb.TierUsage(
            tier=tier,
            capacity_bytes=store.budget.capacity,
            used_bytes=store.budget.used,
            freeing_bytes=store.budget.freeing,
            bytes_in=store.bytes_in,
            evictions=store.evictions,
            hits=counted.get(tier, (0, 0))[0],
            misses=counted.get(tier, (0, 0))[1],
        )
        for tier, store in ((pb.TIER_HBM, tiers.hbm), (pb.TIER_DDR, tiers.ddr))
    ]
