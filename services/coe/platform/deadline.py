"""Prompt deadlines, in wall-clock milliseconds since the epoch. The header takes precedence over the field."""

import re

from coe._proto import events_pb2
from coe.platform.bus.api import Record
from coe.platform.errors import DeadlineExceeded

DEADLINE_HEADER = "coe-deadline-ms"
# Positive, and at most 18 digits, which always fit into 64 bits.
_MILLISECONDS = re.compile(r"[1-9][0-9]{0,17}")


def deadline_header(record: Record) -> str | None:
    """The record's deadline header, unchanged; None unless it is a positive number of at most 18 digits."""
    text = record.header(DEADLINE_HEADER)
    return text if text is not None and _MILLISECONDS.fullmatch(text) else None


def deadline_ms(record: Record | None, submitted: events_pb2.PromptSubmitted | None) -> int | None:
    """The prompt's deadline, or None if it has none."""
    if record is not None and (text := deadline_header(record)) is not None:
        return int(text)
    if submitted is not None and submitted.deadline_ms > 0:
        return submitted.deadline_ms
    return None


def check(deadline: int | None, now_ms: int) -> None:
    """Raises DeadlineExceeded if the deadline has passed."""
    if deadline is not None and now_ms >= deadline:
        raise DeadlineExceeded("the deadline passed before the prompt was started", deadline_ms=deadline)
