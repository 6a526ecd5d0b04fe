"""A prompt as the worker holds it, decoded from a record of the assignments topic."""

import math
from dataclasses import dataclass

from coe._proto import events_pb2
from coe.experts.sampling_params import SamplingParams
from coe.platform.bus import codec
from coe.platform.bus.api import Record
from coe.platform.deadline import deadline_ms
from coe.platform.errors import UndecodableMessage


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """One assigned prompt. Times are seconds on the loop's clock, which is not the wall clock.

    `key` is unique in this process: a client may reuse a request id, and a record may be delivered twice.
    """

    key: str
    record: Record
    assigned: events_pb2.PromptAssigned
    attempt: int
    taken_at: float
    submitted_at: float
    deadline: float
    sampling: SamplingParams
    # Stream chunks already sent, if the prompt had joined a batch before and was postponed.
    chunks: int = 0
    # The identity of its expert's bundle when it arrived (Bundle.identity).
    bundle: str = ""
    # Whether to answer in JSON.
    in_json: bool = False

    @property
    def request_id(self) -> str:
        return self.assigned.prompt.request_id

    @property
    def expert_id(self) -> str:
        return self.assigned.assignment.expert_id


def decode(record: Record) -> events_pb2.PromptAssigned:
    """Raises UndecodableMessage, also when the message lacks a request id or an expert."""
    assigned = codec.decode(record, events_pb2.PromptAssigned)
    if not assigned.prompt.request_id:
        raise UndecodableMessage("the assignment has no request id")
    if not assigned.assignment.expert_id:
        raise UndecodableMessage("the assignment names no expert")
    return assigned


def admit(
    record: Record,
    assigned: events_pb2.PromptAssigned,
    *,
    key: str,
    attempt: int,
    now: float,
    wall_ms: int,
    bundle: str = "",
) -> Prompt:
    """Converts the prompt's wall-clock times to the loop's clock: `now` and `wall_ms` are the same instant.

    Raises InvalidPrompt for a sampling value outside its range.
    """
    submitted_ms = assigned.prompt.submitted_at_ms or record.timestamp_ms
    deadline = deadline_ms(record, assigned.prompt)
    return Prompt(
        key=key,
        record=record,
        assigned=assigned,
        attempt=attempt,
        taken_at=now,
        submitted_at=min(now, now - (wall_ms - submitted_ms) / 1000),
        deadline=now + (deadline - wall_ms) / 1000 if deadline is not None else math.inf,
        sampling=SamplingParams.from_proto(assigned.prompt.sampling),
        bundle=bundle,
        in_json=codec.answered_in_json(record),
    )
