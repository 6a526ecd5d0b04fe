"""`coe top`: a live view of the memory tiers of a node."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Annotated

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table

from coe._proto import memory_tier_manager_pb2 as pb
from coe._proto import memory_tier_manager_pb2_grpc
from coe.cli.console import fields, out, print_json, whole
from coe.cli.servers import host_port, no_stack
from coe.local.stackfile import running_stack
from coe.memory_tier_manager import profiles
from coe.platform import logs
from coe.platform.errors import CoEError, Unavailable
from coe.platform.residency import ResidencyReader
from coe.platform.rpc.client import calls, channel, tls_trouble
from coe.platform.settings import CoreSettings

_TIERS = {pb.TIER_HBM: "HBM", pb.TIER_DDR: "DDR", pb.TIER_DISK: "disk"}
_STATES = {
    pb.RESIDENCY_STATE_LOADING: "loading",
    pb.RESIDENCY_STATE_RESIDENT: "resident",
    pb.RESIDENCY_STATE_EVICTING: "leaving",
    pb.RESIDENCY_STATE_ABSENT: "",
}
MIB = 1 << 20


@dataclass
class Rates:
    """Rates of change since the last update, per second."""

    former: dict[int, pb.TierUsage] = field(default_factory=dict)

    def of(self, usage: pb.TierUsage, seconds: float) -> dict[str, float]:
        """Rates of `bytes_in`, `evictions`, `hits` and `misses`. `seconds`: time since the last update."""
        former = self.former.get(usage.tier, usage)
        self.former[usage.tier] = usage
        counters = ("bytes_in", "evictions", "hits", "misses")
        return {name: (getattr(usage, name) - getattr(former, name)) / seconds for name in counters}


def command(
    address: Annotated[
        str, typer.Option(help="host:port of a memory-tier manager. Default: the running stack's.")
    ] = "",
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between updates.")] = 1.0,
    once: Annotated[bool, typer.Option(help="Print one snapshot and exit.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per update.")] = False,
) -> None:
    """Shows tiers, slots, leases, queues, hit rates, loads and evictions."""
    # Warnings about an unreachable Redis would fill the screen. The missing queues already show it.
    logs.configure("top", level="ERROR", form="console")
    where = host_port("--address", address) if address else _stack_address()
    asyncio.run(_watch(where, interval, once, as_json))


def _stack_address() -> str:
    stack = running_stack(CoreSettings().home)
    service = stack.services.get("memory-tier-manager") if stack else None
    if service is None:
        raise Unavailable(f"{no_stack()}, or give --address")
    return service.grpc


async def _watch(address: str, interval: float, once: bool, as_json: bool) -> None:
    rates = Rates()
    stack = running_stack(CoreSettings().home)
    reader = ResidencyReader(stack.redis_url if stack else CoreSettings().redis_url)
    live = Live(console=out, auto_refresh=False)
    try:
        async with channel(address) as connection:
            stub = memory_tier_manager_pb2_grpc.MemoryTierManagerStub(connection)
            if not as_json and not once:
                live.start()
            looked = monotonic()
            while True:
                since, looked = looked, monotonic()
                try:
                    with calls():
                        listed = await stub.ListResidency(pb.ListResidencyRequest())
                except CoEError as error:
                    why = await tls_trouble(address) or error.message
                    raise Unavailable(f"no memory-tier manager answers at {address}: {why}") from None
                if as_json:
                    print_json({**fields(listed), "moved": _moved(listed)})
                else:
                    node = (await reader.snapshot()).nodes.get(listed.node)
                    view = page(listed, rates, max(looked - since, 1e-3), node.queues if node else {})
                    if once:
                        out.print(view)
                    else:
                        live.update(view, refresh=True)
                if once:
                    return
                await asyncio.sleep(interval)
    finally:
        live.stop()
        await reader.close()


def page(
    listed: pb.ListResidencyResponse, rates: Rates, seconds: float, queues: Mapping[str, Mapping[str, int]]
) -> Group:
    """Renders one update. `queues`: worker -> expert -> prompts waiting or running."""
    tiers = Table("tier", "used", "freeing", "capacity", "MiB/s in", "evictions/s", "evictions", title=listed.node)
    for usage in listed.tiers:
        now = rates.of(usage, seconds)
        if usage.tier == pb.TIER_HBM:
            tiers.caption = _leases(listed, usage, now)
        sizes = (usage.used_bytes, usage.freeing_bytes, usage.capacity_bytes)
        tiers.add_row(
            _TIERS[usage.tier],
            *(f"{size / MIB:.0f} MiB" for size in sizes),
            f"{now['bytes_in'] / MIB:.1f}",
            f"{now['evictions']:.2f}",
            str(usage.evictions),
        )
    waiting: dict[str, int] = {}
    for depths in queues.values():
        for expert_id, depth in depths.items():
            waiting[expert_id] = waiting.get(expert_id, 0) + depth
    experts = Table(whole("expert"), "tier", "state", "slot", "leases", "queue", "pinned", "MiB")
    order = sorted(listed.experts, key=lambda e: (-e.tier, -waiting.get(e.expert_id, 0), -e.last_used_ms))
    for expert in order[:40]:
        experts.add_row(
            expert.expert_id,
            _TIERS[expert.tier],
            _STATES.get(expert.state, ""),
            str(expert.slot) if expert.tier == pb.TIER_HBM else "",
            str(expert.leases or ""),
            str(waiting.get(expert.expert_id) or ""),
            "yes" if expert.pinned else "",
            f"{expert.bytes / MIB:.0f}",
        )
    return Group(tiers, profiles.told(_moved(listed)), experts)


def _moved(listed: pb.ListResidencyResponse) -> dict[str, float]:
    """Bytes moved since the manager started, and the modelled seconds per profile."""
    into = {usage.tier: usage.bytes_in for usage in listed.tiers}
    return profiles.moved(into.get(pb.TIER_DDR, 0), into.get(pb.TIER_HBM, 0))


def _leases(listed: pb.ListResidencyResponse, hbm: pb.TierUsage, now: Mapping[str, float]) -> str:
    """The caption: leases held, and the rate of those that found their expert in HBM, recently and overall."""
    asked = now["hits"] + now["misses"]
    recent = f"{now['hits'] / asked:.0%}" if asked else "-"
    ever = f"{hbm.hits / (hbm.hits + hbm.misses):.0%}" if hbm.hits + hbm.misses else "-"
    held = sum(expert.leases for expert in listed.experts)
    return f"{held} leases held, {asked:.1f}/s new; switches {now['misses']:.2f}/s; hits {recent} now, {ever} ever"
