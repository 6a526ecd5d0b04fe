"""The router process: consumes coe.prompts.v1, publishes coe.routed.v1 and serves the gRPC service Router."""

import asyncio
import time
from collections.abc import Coroutine, Sequence
from pathlib import Path

import grpc.aio

from coe._proto import common_pb2, router_pb2_grpc
from coe.platform import logs, topics
from coe.platform.bus.api import Bus, Subscription
from coe.platform.bus.kafka import KafkaBus
from coe.platform.errors import Unavailable
from coe.platform.service import run
from coe.platform.settings import CoreSettings
from coe.router.artifact import locate
from coe.router.batcher import MicroBatcher
from coe.router.classifier import Classifier, open_classifier
from coe.router.duplicates import Duplicates, nothing
from coe.router.fixed import FixedCategory
from coe.router.handler import RouteHandler
from coe.router.reload import Reloader
from coe.router.rollout import Difference, Rollout
from coe.router.servicer import RouterServicer
from coe.router.settings import RouterSettings

_log = logs.get(__name__)


class RouterService:
    """Owns the classifiers and the bus."""

    name = "router"

    def __init__(self, core: CoreSettings, settings: RouterSettings, bus: Bus) -> None:
        self._core = core
        self._settings = settings
        self._bus = bus
        ttl_s = settings.duplicates_s
        self._duplicates = Duplicates(core.redis_url, ttl_s=ttl_s) if ttl_s else None
        self._rollout: Rollout | None = None
        self._current = Reloader(self._locate, self._open)
        candidate = settings.candidate
        self._candidate = Reloader(lambda: candidate, self._open) if candidate else None
        self._batcher = MicroBatcher(self._classify, max_batch=settings.max_batch)

    def register(self, server: grpc.aio.Server) -> list[str]:
        servicer = RouterServicer(self._batcher.classify, max_bytes=self._core.max_prompt_bytes)
        router_pb2_grpc.add_RouterServicer_to_server(servicer, server)
        return ["coe.v1.Router"]

    async def start(self) -> None:
        self._rollout = await asyncio.to_thread(self._open_rollout)
        _log.info("router artifact", version=self._rollout.current.version)
        await self._bus.start()

    def tasks(self) -> list[Coroutine[object, object, None]]:
        if (rollout := self._rollout) is None:
            raise RuntimeError("tasks() before start()")
        handler = RouteHandler(
            self._classify,
            max_bytes=self._core.max_prompt_bytes,
            now_ms=lambda: time.time_ns() // 1_000_000,
            duplicates=self._duplicates.find if self._duplicates else nothing,
            categories=lambda: rollout.current.categories,
        )
        subscription = Subscription(topics.PROMPTS, group="coe-router", max_batch=self._settings.max_batch)
        loops = [self._bus.process(subscription, handler), self._batcher.run()]
        if self._settings.reload_s and not self._settings.fixed_category:
            loops.append(self._current.follow(rollout.replace, self._settings.reload_s))
            if self._candidate:
                loops.append(self._candidate.follow(rollout.try_out, self._settings.reload_s))
        return loops

    async def healthy(self) -> bool:
        """False while the broker is unreachable: nothing can be served until it is back."""
        return await self._bus.healthy()

    async def stop(self) -> None:
        await self._bus.stop()
        if self._duplicates:
            await self._duplicates.close()

    def _open_rollout(self) -> Rollout:
        if fixed := self._settings.fixed_category:
            return Rollout(FixedCategory(fixed, allowed=self._settings.allow_fixed))
        return Rollout(
            self._current.open(),
            self._candidate.open() if self._candidate else None,
            canary_share=self._settings.canary_share,
            observe=_log_difference,
        )

    def _locate(self) -> Path:
        return self._settings.artifact or locate(self._core.home)

    def _open(self, path: Path) -> Classifier:
        opened = open_classifier(path, encoder_folder=self._settings.encoder, threads=self._settings.threads)
        # Warm-up: the first call loads data lazily and takes about half a second, which no real prompt should pay.
        opened.classify(["hello"])
        return opened

    def _classify(self, texts: Sequence[str]) -> list[common_pb2.RoutingDecision]:
        if self._rollout is None:
            raise Unavailable("the router is starting")
        return self._rollout.classify(texts)


def _log_difference(difference: Difference) -> None:
    ours, theirs = difference.current, difference.candidate
    _log.info(
        "shadow decision differs",
        category=ours.category,
        confidence=round(ours.confidence, 3),
        version=ours.router_version,
        candidate_category=theirs.category,
        candidate_confidence=round(theirs.confidence, 3),
        candidate_version=theirs.router_version,
    )


def main() -> None:
    core = CoreSettings()
    run(RouterService(core, RouterSettings(), KafkaBus(core.kafka_bootstrap, source="coe/router")))


if __name__ == "__main__":
    main()
