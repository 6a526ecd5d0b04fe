"""`coe dead-letters`: the original messages that router, mapper and workers could not handle, and why."""

import asyncio
import base64
from datetime import UTC, datetime
from typing import Annotated

import typer
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from coe._proto import events_pb2
from coe.cli.console import out, print_json
from coe.cli.servers import connect, kafka_bootstrap
from coe.local.reading import between
from coe.platform import topics
from coe.platform.bus.api import Record
from coe.platform.bus.codec import decode
from coe.platform.bus.kafka.connection import Connection
from coe.platform.errors import Unavailable, UndecodableMessage

_KINDS: dict[str, type[Message]] = {
    topics.PROMPTS: events_pb2.PromptSubmitted,
    topics.ROUTED: events_pb2.PromptRouted,
    topics.ASSIGNMENTS: events_pb2.PromptAssigned,
}


def command(
    kafka: Annotated[str | None, typer.Option(help="Bootstrap servers. Default: the running stack's.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line, including the message itself.")
    ] = False,
) -> None:
    """Oldest first, as far back as the topic retains them (a week). With --json also the messages and their prompts."""
    asyncio.run(_show(kafka, as_json))


async def _show(kafka: str | None, as_json: bool) -> None:
    async with connect(kafka):
        options = Connection(kafka_bootstrap(kafka), "coe-cli").options()
        consumer = AIOKafkaConsumer(
            topics.DEAD_LETTER, **options, isolation_level="read_committed", fetch_max_wait_ms=100
        )
        try:
            await consumer.start()
            parts = consumer.assignment()
            starts, ends = await consumer.beginning_offsets(parts), await consumer.end_offsets(parts)
            async for letter in between(consumer, starts, ends):
                _print(letter, as_json)
        except KafkaError as error:
            raise Unavailable(f"the dead letters can't be read: {error!r}") from None
        finally:
            await consumer.stop()


def _print(letter: ConsumerRecord, as_json: bool) -> None:
    record = Record(letter.topic, letter.partition, letter.offset, letter.key, letter.value or b"", letter.headers, 0)
    facts = {
        "time": datetime.fromtimestamp(letter.timestamp / 1000, UTC).isoformat(timespec="seconds"),
        "code": record.header("coe-dlt-reason"),
        "reason": record.header("coe-dlt-message"),
        **{name: record.header(f"coe-dlt-original-{name}") for name in ("topic", "partition", "offset")},
        "attempts": record.header("coe-dlt-attempts"),
        "key": (record.key or b"").decode(errors="backslashreplace"),
    }
    if as_json:
        print_json({**facts, **_content(record, str(facts["topic"]))})
        return
    where = "{topic}[{partition}] at {offset}, key {key!r}".format(**facts)
    out.print(f"{facts['time']}  {facts['code']}  {where}: {facts['reason']}", markup=False, soft_wrap=True)


def _content(record: Record, topic: str) -> dict[str, object]:
    """Decoded if possible, otherwise as text or raw bytes."""
    try:
        if topic in _KINDS:
            return {"message": MessageToDict(decode(record, _KINDS[topic]), preserving_proto_field_name=True)}
    except UndecodableMessage:
        pass
    try:
        return {"text": record.value.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(record.value).decode()}
