"""Checks that the parts of the state are consistent with each other."""

from collections.abc import Container

from coe.memory_tier_manager.leases import LeaseTable
from coe.memory_tier_manager.weights import Weights


def check(weights: Weights, leases: LeaseTable, attached: Container[str]) -> None:
    """Raises AssertionError if bytes, slots, copies or leases disagree."""
    weights.hbm.check_integrity()
    weights.ddr.check_integrity()
    assert all(worker in attached for worker in leases.workers()), "a lease without a worker"
    for expert in leases.experts():
        entry = weights.hbm.entries.get(expert)
        assert entry is not None, f"a lease on {expert}, which is not in HBM"
        assert entry.joinable, f"a lease on {expert}, which is being freed"
    copies = dict.fromkeys(weights.ddr.entries, 0)
    for entry in weights.hbm.entries.values():
        if entry.from_ddr:
            copies[entry.source] += 1
    assert copies == {name: entry.copies for name, entry in weights.ddr.entries.items()}
