"""Message headers: CloudEvents attributes, headers carried from hop to hop, and the reasons on dead letters.

CloudEvents uses the Kafka protocol binding in binary content mode (bindings/kafka-protocol-binding, section 3).
"""

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import lru_cache
from random import Random

from coe.platform.bus.api import Outgoing, Record
from coe.platform.bus.codec import ANSWER_HEADER, JSON, PROTOBUF, answered_in_json
from coe.platform.deadline import DEADLINE_HEADER, deadline_header
from coe.platform.digest import DIGEST_HEADER, digest_header
from coe.platform.errors import CoEError

Headers = list[tuple[str, bytes | None]]

_MAX_REASON = 1024
# Seeded from the system once: a system call per message would take longer than all other headers.
_ids = Random()
os.register_at_fork(after_in_child=_ids.seed)


def cloud_event(
    outgoing: Outgoing, source: str, now_ms: int, headers: Sequence[tuple[str, str]] | None = None
) -> Headers:
    """The headers of a new event. `headers`, if given, replace those of `outgoing`; both override generated ones."""
    own = outgoing.headers if headers is None else headers
    made: Headers = [
        *_of_type(outgoing.message.DESCRIPTOR.name, source, JSON if outgoing.as_json else PROTOBUF),
        ("ce_id", b"%032x" % _ids.getrandbits(128)),
        ("ce_time", f"{_second(now_ms // 1000)}.{now_ms % 1000:03}Z".encode()),
        ("ce_subject", outgoing.key.encode()),
    ]
    if not own:
        return made
    return list({**dict(made), **{name: value.encode() for name, value in own}}.items())


# Cached because the next two run for every message, but depend only on its type and on the second.
@lru_cache(maxsize=256)
def _of_type(message_name: str, source: str, content_type: str) -> tuple[tuple[str, bytes], ...]:
    """The headers shared by all events of a type from one source."""
    fields = {
        "ce_specversion": "1.0",
        "ce_type": event_type(message_name),
        "ce_source": source,
        "content-type": content_type,
    }
    return tuple((name, value.encode()) for name, value in fields.items())


@lru_cache(maxsize=4)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def event_type(message_name: str) -> str:
    """The event type of a message, such as `ai.coe.prompt.submitted.v1` for `PromptSubmitted`."""
    words = re.findall(r"[A-Z][a-z0-9]*", message_name)
    return f"ai.coe.{'.'.join(word.lower() for word in words)}.v1"


def carried(record: Record, headers: Sequence[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """An output's headers plus those it inherits from its input record. Its own take precedence."""
    inherited = []
    if (deadline := deadline_header(record)) is not None:
        inherited.append((DEADLINE_HEADER, deadline))
    if answered_in_json(record):
        inherited.append((ANSWER_HEADER, JSON))
    if digest := digest_header(record):
        inherited.append((DIGEST_HEADER, digest))
    if not inherited:
        return tuple(headers)
    own = {name for name, _ in headers}
    return (*headers, *(one for one in inherited if one[0] not in own))


def dead_letter(record: Record, error: CoEError, attempts: int) -> Headers:
    """The headers of a dead letter: the record's own, its position, and why it could not be handled."""
    why = {
        "coe-dlt-original-topic": record.topic,
        "coe-dlt-original-partition": str(record.partition),
        "coe-dlt-original-offset": str(record.offset),
        "coe-dlt-original-timestamp": str(record.timestamp_ms),
        "coe-dlt-reason": error.code,
        "coe-dlt-message": error.message[:_MAX_REASON],
        "coe-dlt-attempts": str(attempts),
    }
    return [*record.headers, *((name, value.encode()) for name, value in why.items())]
