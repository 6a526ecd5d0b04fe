"""A service whose health follows the broker, for tests of the whole process."""

import asyncio
from collections.abc import Coroutine

import grpc.aio

from coe.platform.bus.kafka import KafkaBus
from coe.platform.service import run
from coe.platform.settings import CoreSettings
from coe.platform.telemetry.registry import counter


class Probe:
    name = "probe"

    def __init__(self) -> None:
        self._bus = KafkaBus(CoreSettings().kafka_bootstrap, source="coe/probe", ensure=())

    def register(self, server: grpc.aio.Server) -> list[str]:
        return []

    async def start(self) -> None:
        await self._bus.start()
        counter("coe.prompt.errors").add(3, {"error.type": "probe"})

    def tasks(self) -> list[Coroutine[object, object, None]]:
        return [self._rest()]

    async def _rest(self) -> None:
        await asyncio.Event().wait()

    async def healthy(self) -> bool:
        return await self._bus.healthy()

    async def stop(self) -> None:
        await self._bus.stop()


if __name__ == "__main__":
    run(Probe())
