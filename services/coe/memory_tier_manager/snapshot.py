"""The state of idle tiers as plain JSON values: the starting point of an event log whose earlier part was dropped."""

import dataclasses
from typing import Any

from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.events import Use
from coe.memory_tier_manager.tiers import State


def take(tiers: Tiers) -> dict[str, Any]:
    """Takes a snapshot. The tiers must be idle: nothing waits, loads or is being freed."""
    hbm, ddr, state = tiers.hbm, tiers.ddr, tiers.state
    kept = ("expert", "nbytes", "slot", "offset", "generation")
    return {
        "resident": [[[getattr(entry, name) for name in kept], _marks(entry, kept)] for entry in hbm.entries.values()],
        "free_slots": list(hbm.free_slots),
        "ddr": [[name, dataclasses.asdict(entry)] for name, entry in ddr.entries.items()],
        "counted": [hbm.bytes_in, hbm.evictions, ddr.bytes_in, ddr.evictions, state.hits, state.misses],
        "leases": [
            [lease.lease, lease.worker, lease.expert]
            for worker in sorted(tiers.leases.workers())
            for lease in tiers.leases.of_worker(worker)
        ],
        "attached": tiers.attached,
        "pins": tiers.pins,
        "unmet": state.unmet,
        "left": tiers.weights.left,
        "forecasts": {
            worker: [dataclasses.astuple(use) for use in uses] for worker, uses in tiers.forecasts.told().items()
        },
        "unclaimed": sorted(state.unclaimed),
        "former": sorted(state.former),
        "claims_end": state.claims_end,
        "retry_at": state.retry_at,
    }


def put(tiers: Tiers, values: dict[str, Any]) -> None:
    """Restores a snapshot into empty tiers. Raises KeyError, TypeError or ValueError if `take` did not make it."""
    hbm, ddr, state = tiers.hbm, tiers.ddr, tiers.state
    for (expert, nbytes, slot, offset, generation), marks in values["resident"]:
        hbm.adopt(expert, nbytes, slot, offset, generation, now=0.0)
        hbm.entries[expert] = dataclasses.replace(hbm.entries[expert], **marks)
    hbm.free_slots = values["free_slots"]
    for expert, entry in values["ddr"]:
        ddr.admit(expert, entry["nbytes"], entry["last_used"])
        if entry["ready"]:
            ddr.ready(expert)
    hbm.bytes_in, hbm.evictions, ddr.bytes_in, ddr.evictions, state.hits, state.misses = values["counted"]
    for lease, worker, expert in values["leases"]:
        tiers.leases.restore(lease, worker, expert)
    tiers.attached.update(values["attached"])
    tiers.pins.update(values["pins"])
    state.unmet.update(values.get("unmet", {}))
    tiers.weights.left.update(values["left"])
    for worker, uses in values["forecasts"].items():
        tiers.forecasts.update(worker, [Use(*use) for use in uses], now=0.0)
    state.unclaimed.update(values["unclaimed"])
    state.former.update(values.get("former", ()))
    state.claims_end = values["claims_end"]
    state.retry_at.update(values["retry_at"])


def _marks(entry: Any, kept: tuple[str, ...]) -> dict[str, Any]:
    """The remaining fields of a resident entry."""
    assert entry.state is State.RESIDENT
    left_out = (*kept, "taken", "state", "waiters")
    return {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry) if field.name not in left_out}
