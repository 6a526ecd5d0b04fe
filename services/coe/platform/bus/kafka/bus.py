"""The Kafka bus of a process."""

import asyncio
from collections.abc import Callable, Sequence

import structlog
from aiokafka.errors import KafkaConnectionError, KafkaError

from coe.platform import backoff, topics
from coe.platform.bus.api import BatchHandler, Subscription, TopicSpec
from coe.platform.bus.kafka.admin import Admin
from coe.platform.bus.kafka.connection import Connection
from coe.platform.bus.kafka.membership import Membership
from coe.platform.bus.kafka.parallel import KafkaParallelContext
from coe.platform.bus.kafka.process import process
from coe.platform.bus.kafka.publisher import KafkaPublisher
from coe.platform.bus.kafka.records import read_any_header
from coe.platform.bus.kafka.tail import KafkaTail
from coe.platform.errors import Unavailable

_log = structlog.stdlib.get_logger(__name__)


class KafkaBus:
    """`source` names the process in the CloudEvents it publishes, as in "coe/router"."""

    def __init__(
        self,
        bootstrap: str,
        *,
        source: str,
        start_timeout_s: float | None = None,
        ensure: Sequence[TopicSpec] = topics.SPECS,
        session_timeout_s: float = 10.0,
        on_wait: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Does not connect yet.

        `start_timeout_s`: None to let `start` retry until the broker responds. `ensure`: topics to create if missing.
        `session_timeout_s`: time without a heartbeat after which this process's partitions are reassigned.
        `on_wait`: called before `start` retries, with the reason, or "" if it is unknown.
        """
        self._connection = Connection(
            bootstrap, client_id=source.replace("/", "-"), session_timeout_s=session_timeout_s
        )
        self._source = source
        self._start_timeout_s = start_timeout_s
        self._on_wait = on_wait
        self._ensure = tuple(ensure)
        self._admin = Admin(self._connection)
        self._publisher = KafkaPublisher(self._connection, source)

    @property
    def publisher(self) -> KafkaPublisher:
        return self._publisher

    async def start(self) -> None:
        """Connects and creates missing topics. Raises Unavailable after `start_timeout_s`, or if TLS or SASL fails."""
        read_any_header()
        failures = 0
        last: Exception | None = None
        why = ""
        try:
            async with asyncio.timeout(self._start_timeout_s):
                while True:
                    try:
                        return await self._connect()
                    except (KafkaError, OSError) as error:
                        failures, last = failures + 1, error
                        await self.stop()
                    why, lasts = await self._connection.trouble()
                    if lasts:
                        # Waiting does not fix a certificate or a password.
                        raise Unavailable(f"no connection to a Kafka broker: {why}")
                    pause = backoff.delay_s(failures)
                    self._on_wait(why)
                    # A failed connection adds nothing to the log message.
                    refused = not isinstance(last, KafkaConnectionError)
                    said = {"reason": why or repr(last)} if why or refused else {}
                    _log.warning(
                        "the broker can't be reached", bootstrap=self._connection.bootstrap, retry_s=pause, **said
                    )
                    await asyncio.sleep(pause)
        except TimeoutError:
            await self.stop()
            if why:
                raise Unavailable(f"no connection to a Kafka broker: {why}") from None
            # A failed connection adds nothing to the error message.
            reason = f": {last}" if last and not isinstance(last, KafkaConnectionError) else ""
            raise Unavailable(f"no Kafka broker answers at {self._connection.bootstrap}{reason}") from None

    async def _connect(self) -> None:
        await self._admin.start()
        created = await self._admin.create_topics(self._ensure)
        if created:
            _log.info("topics were created", topics=created)
        await self._publisher.start()

    async def stop(self) -> None:
        await self._publisher.stop()
        await self._admin.stop()

    async def process(self, subscription: Subscription, handler: BatchHandler) -> None:
        membership = Membership(self._connection, self._admin, subscription, marks=False)
        await process(membership, subscription, handler, self._source)

    def parallel(self, subscription: Subscription) -> KafkaParallelContext:
        membership = Membership(self._connection, self._admin, subscription, marks=True)
        return KafkaParallelContext(membership, subscription, self._source)

    def tail(self, topics: Sequence[str]) -> KafkaTail:
        return KafkaTail(self._connection, topics)

    async def healthy(self) -> bool:
        """Whether the broker responds within two seconds."""
        try:
            async with asyncio.timeout(2.0):
                return await self._admin.answers()
        except TimeoutError:
            return False
