"""The mapper process: consumes coe.routed.v1, publishes coe.assignments.v1 and serves the gRPC service Mapper."""

import asyncio
import time
from collections.abc import Coroutine

import grpc.aio

from coe._proto import mapper_pb2_grpc
from coe.mapper.cluster import ClusterWatch
from coe.mapper.handler import MapHandler
from coe.mapper.replicas import Replicas
from coe.mapper.servicer import MapperServicer
from coe.mapper.settings import MapperSettings
from coe.mapper.state import StateFiles
from coe.platform import topics
from coe.platform.bus.api import Bus, Subscription
from coe.platform.bus.kafka import KafkaBus
from coe.platform.residency import ResidencyReader
from coe.platform.service import run
from coe.platform.settings import CoreSettings


class MapperService:
    """Owns the state, the view of the cluster and the bus."""

    name = "mapper"

    def __init__(self, core: CoreSettings, settings: MapperSettings, bus: Bus, residency: ResidencyReader) -> None:
        self._settings = settings
        self._bus = bus
        self._files = StateFiles(core.home, settings)
        self._replicas = Replicas(settings.rule())
        self._watched = ClusterWatch(residency, self._replicas.saw)

    def register(self, server: grpc.aio.Server) -> list[str]:
        mapper_pb2_grpc.add_MapperServicer_to_server(MapperServicer(lambda: self._files.current), server)
        return ["coe.v1.Mapper"]

    async def start(self) -> None:
        await asyncio.to_thread(self._files.load)
        await self._bus.start()

    def tasks(self) -> list[Coroutine[object, object, None]]:
        handler = MapHandler(
            lambda: self._files.current,
            lambda expert, affinity: self._replicas.choose(expert, affinity, time.monotonic()),
            self._settings,
            now_ms=lambda: time.time_ns() // 1_000_000,
        )
        subscription = Subscription(topics.ROUTED, group="coe-mapper", max_batch=self._settings.max_batch)
        return [self._bus.process(subscription, handler), self._watch(), self._watched.follow()]

    async def healthy(self) -> bool:
        """False while the broker is unreachable: nothing can be served until it is back."""
        return await self._bus.healthy()

    async def stop(self) -> None:
        await self._bus.stop()
        await self._watched.close()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._settings.reload_s)
            await asyncio.to_thread(self._files.refresh)


def main() -> None:
    core = CoreSettings()
    bus = KafkaBus(core.kafka_bootstrap, source="coe/mapper")
    run(MapperService(core, MapperSettings(), bus, ResidencyReader(core.redis_url)))


if __name__ == "__main__":
    main()
