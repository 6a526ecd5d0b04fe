"""The router process: coe.prompts.v1 to coe.routed.v1, and the gRPC service Router."""

import asyncio
import time
from collections.abc import Coroutine, Sequence

import grpc.aio

from coe._proto import common_pb2, router_pb2_grpc
from coe.platform import topics
from coe.platform.bus.api import Bus, Subscription
from coe.platform.bus.kafka import KafkaBus
from coe.platform.errors import Unavailable
from coe.platform.service import run
from coe.platform.settings import CoreSettings
from coe.router.artifact import locate
from coe.router.batcher import MicroBatcher
from coe.router.classifier import Classifier, open_classifier
from coe.router.handler import RouteHandler
from coe.router.servicer import RouterServicer
from coe.router.settings import RouterSettings


class RouterService:
    """Owns the classifier and the bus."""

    name = "router"

    def __init__(self, core: CoreSettings, settings: RouterSettings, bus: Bus) -> None:
        self._core = core
        self._settings = settings
        self._bus = bus
        self._classifier: Classifier | None = None
        self._batcher = MicroBatcher(self._classify, max_batch=settings.max_batch)

    def register(self, server: grpc.aio.Server) -> list[str]:
        servicer = RouterServicer(self._batcher.classify, max_bytes=self._core.max_prompt_bytes)
        router_pb2_grpc.add_RouterServicer_to_server(servicer, server)
        return ["coe.v1.Router"]

    async def start(self) -> None:
        path = self._settings.artifact or locate(self._core.home)
        self._classifier = await asyncio.to_thread(
            open_classifier, path, encoder_folder=self._settings.encoder, threads=self._settings.threads
        )
        await self._bus.start()

    def tasks(self) -> list[Coroutine[object, object, None]]:
        handler = RouteHandler(
            self._classify,
            max_bytes=self._core.max_prompt_bytes,
            now_ms=lambda: time.time_ns() // 1_000_000,
        )
        subscription = Subscription(topics.PROMPTS, group="coe-router", max_batch=self._settings.max_batch)
        return [self._bus.process(subscription, handler), self._batcher.run()]

    async def stop(self) -> None:
        await self._bus.stop()

    def _classify(self, texts: Sequence[str]) -> list[common_pb2.RoutingDecision]:
        if self._classifier is None:
            raise Unavailable("the router is starting")
        return self._classifier.classify(texts)


def main() -> None:
    core = CoreSettings()
    run(RouterService(core, RouterSettings(), KafkaBus(core.kafka_bootstrap, source="coe/router")))


if __name__ == "__main__":
    main()
