"""The memory-tier manager's process: wiring and lifecycle."""

import asyncio
import time
from collections.abc import Coroutine, Iterable
from contextlib import ExitStack, suppress

import grpc.aio
import uvloop

from coe._proto import memory_tier_manager_pb2_grpc
from coe.experts.catalogue import Catalogue
from coe.experts.manifest import CHUNK_BYTES
from coe.memory_tier_manager import effects as fx
from coe.memory_tier_manager import events as ev
from coe.memory_tier_manager import views
from coe.memory_tier_manager.calls import Calls, Identity
from coe.memory_tier_manager.core import Tiers
from coe.memory_tier_manager.event_log import EventLog
from coe.memory_tier_manager.eviction import EVICTION
from coe.memory_tier_manager.lease_socket import LeaseSocket
from coe.memory_tier_manager.looks import Looks
from coe.memory_tier_manager.metrics import MEASURED, TierMetrics
from coe.memory_tier_manager.native_arena import SHARED_MEMORY, BundleLibrary, NativeArena
from coe.memory_tier_manager.profiles import PROFILES
from coe.memory_tier_manager.requests import Limits
from coe.memory_tier_manager.runtime import PATIENCE_S, Runtime
from coe.memory_tier_manager.servicer import MemoryTierManagerServicer
from coe.memory_tier_manager.settings import TiersSettings
from coe.memory_tier_manager.versions import Versions, name_of
from coe.memory_tier_manager.watchers import Watchers
from coe.platform import logs
from coe.platform.errors import Unavailable
from coe.platform.residency import ResidencyPublisher
from coe.platform.service import run
from coe.platform.settings import CoreSettings

_log = logs.get(__name__)

# Residency changes within PUBLISH_S are published to Redis together; lease counts every LEASES_S.
PUBLISH_S = 0.05
LEASES_S = 0.5
# Seconds between checks for experts that were removed or reimported.
IMPORTS_S = 2.0
# Seconds between checks that the arena's name still exists in shared memory.
NAME_S = 2.0


class MemoryTierManagerService:
    """Owns the arena, the run loop and the publisher."""

    name = "memory-tier-manager"

    def __init__(self, core: CoreSettings, settings: TiersSettings) -> None:
        self._core = core
        self._settings = settings
        self._library = BundleLibrary(Catalogue(core.experts_dir))
        self._epoch = time.time_ns() // 1_000_000
        self._looks = Looks()
        self._versions = Versions(self._library, lambda event: self._runtime.post(event), self._looks)
        self._watchers = Watchers()
        self._changed: set[str] = set()
        self._moved = asyncio.Event()

    def register(self, server: grpc.aio.Server) -> list[str]:
        core, settings = self._core, self._settings
        self._publisher = ResidencyPublisher(core.redis_url, core.node, self._epoch)
        # May block: nobody is being served yet.
        self._versions.meet(self._library.experts())
        self._arena = NativeArena(
            settings.arena or f"coe-{core.node}",
            settings.hbm_bytes,
            settings.slots,
            threads=settings.copy_threads,
            bytes_per_second=settings.link_bytes_per_s,
        )
        with ExitStack() as unless_all_is_there:
            unless_all_is_there.callback(self._arena.close)
            self._open_tiers(server)
            unless_all_is_there.pop_all()
        return ["coe.v1.MemoryTierManager"]

    def _open_tiers(self, server: grpc.aio.Server) -> None:
        core, settings = self._core, self._settings
        hosted = self._versions.all()
        defaults = {found.key: found.nbytes for found in map(self._versions.last, settings.default_experts)}
        # Lease ids differ from those of every other manager process.
        self._tiers = Tiers(self._limits(), EVICTION[settings.eviction], defaults, first_lease=self._epoch << 20)
        self._warn_of_defaults(defaults.values())
        self._metrics = TierMetrics(self._tiers)
        self._log = self._event_log()
        link = settings.link_bytes_per_s
        # Copies progress in chunks: over a slow link, no chunk may complete for a while.
        patience_s = max(PATIENCE_S, 2 * CHUNK_BYTES / link) if link else PATIENCE_S
        self._runtime = Runtime(
            self._tiers, self._arena, self._versions, self._observe, patience_s=patience_s, looks=self._looks
        )
        # Next to the arena, so that containers that share the arena share the socket too.
        socket = SHARED_MEMORY / f"{self._arena.name}.leases"
        identity = Identity(
            core.node, self._epoch, self._arena.epoch, self._arena.name, PROFILES[settings.profile], str(socket)
        )
        # Before the first worker can attach: it may hold leases on what is in the arena.
        if residents := self._arena.found({found.tag: (found.key, found.nbytes) for found in hosted}):
            _log.info("took over the arena of a manager that died", experts=[found.expert for found in residents])
            self._runtime.post(ev.Adopt(tuple(residents)))
        calls = Calls(identity, self._runtime, self._versions)
        self._socket = LeaseSocket(socket, calls, self._runtime)
        self._servicer = MemoryTierManagerServicer(
            identity, self._tiers, self._runtime, calls, self._versions, self._watchers
        )
        memory_tier_manager_pb2_grpc.add_MemoryTierManagerServicer_to_server(self._servicer, server)

    async def start(self) -> None:
        await self._socket.start()
        await self._publisher.start()
        self._changed.update(await self._versions.hosted())

    def tasks(self) -> list[Coroutine[object, object, None]]:
        return [self._runtime.run(), self._publish(), self._follow_imports(), self._keep_name()]

    async def stop(self) -> None:
        self._servicer.stop()
        await self._socket.stop()
        await self._runtime.close()
        await self._publisher.close()
        self._arena.close()
        if self._log is not None:
            self._log.close()

    def _warn_of_defaults(self, sizes: Iterable[int]) -> None:
        hbm = self._tiers.hbm
        if (nbytes := sum(map(hbm.extents.rounded, sizes))) > hbm.budget.capacity:
            _log.warning("the default experts don't all fit into HBM", bytes=nbytes, hbm_bytes=hbm.budget.capacity)

    def _limits(self) -> Limits:
        settings = self._settings
        return Limits(
            hbm_bytes=self._arena.capacity,
            ddr_bytes=settings.ddr_bytes,
            slots=self._arena.slots,
            max_waiting=settings.max_waiting,
            load_timeout_s=settings.load_timeout_s,
            idle_ttl_s=settings.idle_ttl_s or float("inf"),
            claim_s=settings.claim_s,
            recall_s=settings.recall_s,
            part_share=settings.part_share,
            part_unit=CHUNK_BYTES,
        )

    def _event_log(self) -> EventLog | None:
        settings = self._settings
        if settings.event_log is None:
            return None
        return EventLog(settings.event_log, self._tiers, max_bytes=settings.event_log_bytes)

    def _observe(self, item: ev.Event | fx.Effect, now: float) -> None:
        if self._log is not None and isinstance(item, ev.Event):
            self._log.write(item, now)
        if type(item) in MEASURED:
            self._metrics.observe(item, now)
        elif isinstance(item, fx.Changed):
            expert = name_of(item.expert)
            self._changed.add(expert)
            self._moved.set()
            self._watchers.changed(expert)

    async def _follow_imports(self) -> None:
        """Watches experts that are, or should be, in a tier for reimports. Others are checked when requested."""
        while True:
            await asyncio.sleep(IMPORTS_S)
            kept = (*views.present(self._tiers), *map(name_of, self._tiers.state.wanted_always()))
            await self._versions.follow(kept)

    async def _keep_name(self) -> None:
        """Fails when the arena's name has been removed. Running workers could continue but new ones could not attach,
        so stop: the next manager creates a new arena for all."""
        while True:
            await asyncio.sleep(NAME_S)
            if not self._arena.has_name:
                path = SHARED_MEMORY / self._arena.name
                raise Unavailable(f"{path} was removed: systemd-logind does that when its user logs out (RemoveIPC)")

    async def _publish(self) -> None:
        """Publishes residency changes soon after they happen and lease counts periodically, which wake nobody."""
        sampled_at = float("-inf")
        while True:
            now = time.monotonic()
            if now >= sampled_at + LEASES_S:
                sampled_at = now
                self._metrics.sample(now, self._runtime.disk_waits)
                self._changed.update(map(name_of, self._tiers.take_used()))
            if self._changed:
                changed, self._changed = self._changed, set()
                shown = map(self._versions.last, changed)
                self._publisher.publish(*(views.residency(self._tiers, one.key, one.nbytes) for one in shown))
                self._publisher.publish_usage(*views.usage(self._tiers))
            if self._log is not None:
                self._log.flush()
            self._moved.clear()
            await asyncio.sleep(PUBLISH_S)
            with suppress(TimeoutError):
                async with asyncio.timeout_at(asyncio.get_running_loop().time() + LEASES_S - PUBLISH_S):
                    await self._moved.wait()


if __name__ == "__main__":
    # A uvloop wake-up costs a quarter of asyncio's, and at 200 leases per second wake-ups are most of the cost.
    run(MemoryTierManagerService(CoreSettings(), TiersSettings()), uvloop.new_event_loop)
