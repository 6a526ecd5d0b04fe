"""Reports a consumer group's lag as a metric. Each of its processes queries the broker periodically.

The lag covers all partitions, including unassigned ones, so that a group without members, or one that is not allowed to
read, shows up too.
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
    """Updates the gauge until cancelled. While the broker does not respond the last value stays."""
    attributes = {names.MESSAGING_DESTINATION: subscription.topic, names.MESSAGING_GROUP: subscription.group}
    while True:
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                lag = await admin.lag(subscription.group, subscription.topic)
            registry.gauge("coe.consumer.lag").set(lag, attributes)
        except (KafkaError, OSError, TimeoutError) as error:
            _log.debug("the consumer lag can't be determined", group=subscription.group, error=repr(error))
        except Exception as error:
            # aiokafka can also fail an assertion, but a metric must not stop the service.
            _log.warning("the consumer lag can't be determined", group=subscription.group, exc_info=error)
        await asyncio.sleep(PERIOD_S)
