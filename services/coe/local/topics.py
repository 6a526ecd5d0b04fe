"""Creates the topics of the system on a broker: `python -m coe.local.topics` does it for COE_KAFKA_BOOTSTRAP."""

import asyncio
from collections.abc import Sequence

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError, for_code

from coe.platform import topics
from coe.platform.bus.api import TopicSpec
from coe.platform.errors import Unavailable
from coe.platform.settings import CoreSettings

_HOUR_MS = 3_600_000
_TOPIC_ALREADY_EXISTS = 36


def specs(partitions: int) -> tuple[TopicSpec, ...]:
    """`partitions` bounds how many processes can share the work of one topic."""
    day = {"retention.ms": str(24 * _HOUR_MS)}
    prompts = {**day, "max.message.bytes": str(2 * 1024 * 1024)}
    return (
        TopicSpec(topics.PROMPTS, partitions, prompts),
        TopicSpec(topics.ROUTED, partitions, prompts),
        TopicSpec(topics.ASSIGNMENTS, partitions, prompts),
        TopicSpec(topics.TOKENS, partitions, {"retention.ms": str(_HOUR_MS)}),
        TopicSpec(topics.COMPLETIONS, partitions, day),
        TopicSpec(topics.CANCELLATIONS, 1, {"retention.ms": str(_HOUR_MS)}),
        TopicSpec(topics.DEAD_LETTER, 1, {**prompts, "retention.ms": str(7 * 24 * _HOUR_MS)}),
    )


async def create(bootstrap: str, wanted: Sequence[TopicSpec], *, replicas: int = -1) -> list[str]:
    """Makes what is missing and returns its names; topics that are there stay as they are.

    `replicas` -1: the broker's default. Raises Unavailable when the broker refuses or can't be reached.
    """
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        missing = {spec.name: spec for spec in wanted}
        for name in await admin.list_topics():
            missing.pop(name, None)
        new = [
            NewTopic(spec.name, num_partitions=spec.partitions, replication_factor=replicas, topic_configs=spec.config)
            for spec in missing.values()
        ]
        response = await admin.create_topics(new) if new else None
    except KafkaError as error:
        raise Unavailable(f"topics could not be created on {bootstrap}: {error}") from error
    finally:
        await admin.close()
    for name, code, *reason in response.topic_errors if response is not None else ():
        if code not in (0, _TOPIC_ALREADY_EXISTS):
            raise Unavailable(f"topic {name} could not be created: {reason[0] or for_code(code).__name__}")
    return list(missing)


if __name__ == "__main__":
    for created in asyncio.run(create(CoreSettings().kafka_bootstrap, specs(partitions=8))):
        print(f"created {created}")
