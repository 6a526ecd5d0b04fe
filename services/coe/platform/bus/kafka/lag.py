"""How far a consumer group is behind, as a metric: each of its processes asks the broker now and then.

Of all partitions, also those that nobody has: a group that has lost its members, or that is let read nothing, shows.
"""

import asyncio

import structlog
from aiokafka.errors import KafkaError

from coe.platform.bus.api import Subscription
from coe.platform.bus.kafka.admin import Admin
from coe.platform.telemetry import names, registry

_log = structlog.stdlib.get_logger(__name__)
PERIOD_S = 15.0
_TIMEOUT_S = 10.0


async def watch_lag(admin: Admin, subscription: Subscription) -> None:
    """Until cancelled. While the broker does not answer the last figure stays."""
    attributes = {names.MESSAGING_DESTINATION: subscription.topic, names.MESSAGING_GROUP: subscription.group}
    while True:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                lag = await admin.lag(subscription.group, subscription.topic)
            registry.gauge("coe.consumer.lag").set(lag, attributes)
        except (KafkaError, OSError, TimeoutError) as error:
            _log.debug("the consumer lag can't be determined", group=subscription.group, error=repr(error))
        except Exception as error:
            # aiokafka also asserts. A figure is no reason to end.
            _log.warning("the consumer lag can't be determined", group=subscription.group, exc_info=error)
        await asyncio.sleep(PERIOD_S)
