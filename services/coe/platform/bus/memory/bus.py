"""The in-memory bus of one "process"."""

import time
from collections.abc import Sequence

from coe.platform.bus.api import BatchHandler, Outgoing, Subscription
from coe.platform.bus.codec import encode
from coe.platform.bus.handle import handle
from coe.platform.bus.headers import cloud_event
from coe.platform.bus.memory.broker import MemoryBroker
from coe.platform.bus.memory.consumers import MemoryParallel, MemoryTail
from coe.platform.bus.memory.membership import Membership
from coe.platform.bus.messages import Message
from coe.platform.telemetry import messaging


class MemoryBus:
    """The bus of one "process", on a broker that several may share."""

    def __init__(self, broker: MemoryBroker | None = None, *, source: str = "coe/test") -> None:
        self.broker = broker or MemoryBroker()
        self._source = source

    async def start(self) -> None:
        """Does nothing."""

    async def stop(self) -> None:
        """Does nothing."""

    @property
    def publisher(self) -> "MemoryBus":
        return self

    async def publish(self, outgoing: Outgoing) -> None:
        span = messaging.start_send(outgoing.topic, outgoing.key)
        self._append(outgoing, messaging.trace_headers(span))
        span.end()

    async def post(self, outgoing: Outgoing) -> None:
        self._append(outgoing, messaging.trace_headers())

    def _append(self, outgoing: Outgoing, trace: list[tuple[str, bytes]]) -> None:
        headers = cloud_event(outgoing, self._source, time.time_ns() // 1_000_000) + trace
        key, value = outgoing.key.encode(), encode(outgoing)
        self.broker.append(Message(outgoing.topic, key, value, headers, outgoing.partition))

    async def process(self, subscription: Subscription, handler: BatchHandler) -> None:
        membership = Membership(self.broker, subscription, self._source)
        membership.join()
        try:
            while True:
                records = membership.take(subscription.max_batch)
                if not records:
                    await self.broker.change()
                    continue
                for record, outcome in zip(records, await handle(handler, records), strict=True):
                    membership.complete(record, outcome)
        finally:
            membership.leave()

    def parallel(self, subscription: Subscription) -> MemoryParallel:
        return MemoryParallel(self.broker, subscription, self._source)

    def tail(self, topics: Sequence[str]) -> MemoryTail:
        return MemoryTail(self.broker, topics)

    async def healthy(self) -> bool:
        return True
