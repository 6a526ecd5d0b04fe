"""Metrics of what services decide, read off the events that they publish: no service has to remember to count."""

from google.protobuf.message import Message as ProtobufMessage

from coe._proto import events_pb2
from coe.platform.bus.api import Outcome, Record
from coe.platform.telemetry import messaging, names, registry


def observe(record: Record, outcome: Outcome) -> None:
    """Counts an outcome that is about to be published for `record`, and marks the record's span when it is an error."""
    for outgoing in outcome.publish:
        _observe(record, outgoing.message)
    if outcome.dead_letter is not None:
        messaging.mark_failed(record, outcome.dead_letter.code, outcome.dead_letter.message)
        attributes = {names.MESSAGING_DESTINATION: record.topic, names.ERROR_TYPE: outcome.dead_letter.code}
        registry.counter("coe.dead_letters").add(1, attributes)


def _observe(record: Record, message: ProtobufMessage) -> None:
    match message:
        case events_pb2.PromptRouted(routing=routing):
            attributes = {names.COE_CATEGORY: routing.category, names.COE_FALLBACK: routing.fallback_reason}
            registry.counter("coe.router.decisions").add(1, attributes)
            registry.histogram("coe.router.confidence").record(routing.confidence)
            registry.histogram("coe.router.duration").record(message.routing_s)
        case events_pb2.PromptAssigned(assignment=assignment):
            attributes = {names.COE_EXPERT: assignment.expert_id, "coe.mapper.reason": assignment.reason}
            registry.counter("coe.mapper.decisions").add(1, attributes)
            registry.histogram("coe.mapper.duration").record(message.mapping_s)
        case events_pb2.PromptCompleted() if message.WhichOneof("outcome") == "error":
            messaging.mark_failed(record, message.error.code, message.error.message)
            registry.counter("coe.prompt.errors").add(1, {names.ERROR_TYPE: message.error.code})
