"""Derives metrics and logs of decisions from the published events, so that services need not record them."""

from google.protobuf.message import Message as ProtobufMessage

from coe._proto import events_pb2
from coe.platform import logs
from coe.platform.bus.api import Outcome, Record
from coe.platform.errors import CoEError, ExpertNotFound, InvalidPrompt, from_code
from coe.platform.telemetry import messaging, names, registry

_log = logs.get(__name__)


def observe(record: Record, outcome: Outcome) -> None:
    """Counts an outcome about to be published for `record`. Logs errors and marks the record's span as failed."""
    for outgoing in outcome.publish:
        _observe(record, outgoing.message)
    if outcome.dead_letter is not None:
        code = outcome.dead_letter.code
        messaging.mark_failed(record, code, "" if outcome.dead_letter.of_client else outcome.dead_letter.message)
        attributes = {names.MESSAGING_DESTINATION: record.topic, names.ERROR_TYPE: code}
        registry.counter("coe.dead_letters").add(1, attributes)
        if not outcome.publish:
            with messaging.handling(record):
                _log.warning("a message without a request id became a dead letter", code=code, **_place(record))


def _observe(record: Record, message: ProtobufMessage) -> None:
    match message:
        case events_pb2.PromptAssigned(assignment=assignment):
            attributes = {names.COE_EXPERT: assignment.expert_id, "coe.mapper.reason": assignment.reason}
            registry.counter("coe.mapper.decisions").add(1, attributes)
            registry.histogram("coe.mapper.duration").record(message.mapping_s)
        case events_pb2.PromptCompleted() if message.WhichOneof("outcome") == "error":
            error = from_code(message.error.code, message.error.message)
            # The message of a client's error may quote the prompt, so it is kept out of logs and traces.
            messaging.mark_failed(record, message.error.code, "" if error.of_client else error.message)
            registry.counter("coe.prompt.errors").add(1, {names.ERROR_TYPE: _counted_as(message)})
            _say(record, message, error)


def _counted_as(ended: events_pb2.PromptCompleted) -> str:
    """The error code for metrics.

    An unknown expert that only the client named counts as an invalid prompt, so that it does not cause an alert.
    """
    error = ended.error
    named = "expert_id" in error.details and not ended.HasField("assignment")
    return InvalidPrompt.code if error.code == ExpertNotFound.code and named else error.code


def _say(record: Record, ended: events_pb2.PromptCompleted, error: CoEError) -> None:
    """Logs a failed prompt in one line."""
    facts = {
        "request_id": ended.request_id,
        "code": ended.error.code,
        "expert": ended.assignment.expert_id,
        "worker": ended.worker,
        "attempt": ended.attempt,
        **_place(record),
    }
    with messaging.handling(record):
        if error.of_client:
            _log.info("a prompt ended with an error", **facts)
        else:
            _log.warning("a prompt ended with an error", reason=error.message, **facts)


def _place(record: Record) -> dict[str, object]:
    return {"topic": record.topic, "partition": record.partition, "offset": record.offset}
