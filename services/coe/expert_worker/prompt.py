"""A prompt as the worker holds it, made from a record of the assignments topic."""

import math
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from coe._proto import common_pb2, events_pb2
from coe.platform.bus.api import Record
from coe.platform.errors import InvalidPrompt, PromptTooLarge, UndecodableMessage

DEADLINE_HEADER = "coe-deadline-ms"
ROLES = frozenset({"system", "user", "assistant"})


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """One assigned prompt. Times are seconds on the clock that the loop is given, which is not the wall clock.

    `key` is unique in this process: a client may use a request id twice, and a record may come twice.
    """

    key: str
    record: Record
    assigned: events_pb2.PromptAssigned
    attempt: int
    taken_at: float
    submitted_at: float
    deadline: float
    # Stream chunks already sent: the prompt joined before, and had to go back to its queue.
    chunks: int = 0

    @property
    def request_id(self) -> str:
        return self.assigned.prompt.request_id

    @property
    def expert_id(self) -> str:
        return self.assigned.assignment.expert_id


def decode(record: Record) -> events_pb2.PromptAssigned:
    """Raises UndecodableMessage, also when the message names no request or no expert."""
    try:
        assigned = events_pb2.PromptAssigned.FromString(record.value)
    except DecodeError:
        raise UndecodableMessage("the assignment is not a PromptAssigned message") from None
    if not assigned.prompt.request_id:
        raise UndecodableMessage("the assignment has no request id")
    if not assigned.assignment.expert_id:
        raise UndecodableMessage("the assignment names no expert")
    return assigned


def admit(
    record: Record, assigned: events_pb2.PromptAssigned, *, key: str, attempt: int, now: float, wall_ms: int
) -> Prompt:
    """Places the prompt's wall-clock times on the loop's clock: `now` and `wall_ms` are the same instant."""
    submitted_ms = assigned.prompt.submitted_at_ms or record.timestamp_ms
    deadline_ms = _deadline_ms(record, assigned.prompt)
    return Prompt(
        key=key,
        record=record,
        assigned=assigned,
        attempt=attempt,
        taken_at=now,
        submitted_at=min(now, now - (wall_ms - submitted_ms) / 1000),
        deadline=now + (deadline_ms - wall_ms) / 1000 if deadline_ms else math.inf,
    )


def check(submitted: events_pb2.PromptSubmitted, *, max_prompt_bytes: int) -> None:
    """Raises PromptTooLarge or InvalidPrompt for what no expert could answer."""
    size = len(submitted.prompt.encode()) + sum(len(message.content.encode()) for message in submitted.messages)
    if size > max_prompt_bytes:
        raise PromptTooLarge(f"the prompt has {size} bytes, more than {max_prompt_bytes}", bytes=size)
    if submitted.messages and submitted.messages[-1].role != "user":
        raise InvalidPrompt("the last message of a conversation must be the user's")
    for message in submitted.messages:
        if message.role not in ROLES:
            raise InvalidPrompt(f"unknown role {message.role!r}: use system, user or assistant")
    _check_sampling(submitted.sampling)


def _check_sampling(sampling: common_pb2.SamplingParams) -> None:
    checks = {
        "max_tokens": not sampling.HasField("max_tokens") or sampling.max_tokens >= 1,
        "temperature": 0 <= sampling.temperature <= 100,
        "top_p": not sampling.HasField("top_p") or 0 < sampling.top_p <= 1,
        "min_p": 0 <= sampling.min_p <= 1,
        "repetition_penalty": not sampling.HasField("repetition_penalty") or 0 < sampling.repetition_penalty <= 100,
        "stop": all(sampling.stop),
    }
    for name, good in checks.items():
        if not good:
            raise InvalidPrompt(f"sampling.{name} is out of its range: {getattr(sampling, name)}", field=name)


def _deadline_ms(record: Record, submitted: events_pb2.PromptSubmitted) -> int:
    header = record.header(DEADLINE_HEADER)
    if header is not None and header.isdecimal():
        return int(header)
    return submitted.deadline_ms
