"""Runs a batch handler so that a failing record does not affect the others in its batch."""

from collections.abc import Sequence

import structlog

from coe.platform.bus.api import BatchHandler, Outcome, Record
from coe.platform.errors import CoEError, InternalError
from coe.platform.telemetry import messaging
from coe.platform.terminal import error_outcome

_log = structlog.stdlib.get_logger(__name__)


async def handle(handler: BatchHandler, records: Sequence[Record]) -> Sequence[Outcome]:
    """Returns an outcome per record. Retries the records of a failed batch one by one, to isolate the failing one."""
    try:
        outcomes = await handler(records)
        if len(outcomes) == len(records):
            return outcomes
        raise InternalError(f"a handler gave {len(outcomes)} outcomes for {len(records)} records")
    except Exception as error:
        if len(records) == 1:
            return [_failed(records[0], error)]
        _log.warning("a batch failed; its records are handled one by one", records=len(records), error=repr(error))
    return [(await handle(handler, [record]))[0] for record in records]


def _failed(record: Record, error: Exception) -> Outcome:
    with messaging.handling(record):
        _log.error(
            "a record could not be handled",
            topic=record.topic,
            partition=record.partition,
            offset=record.offset,
            exc_info=error,
        )
    if not isinstance(error, CoEError):
        error = InternalError("the message could not be handled; the service's log has the reason")
    return error_outcome(record, None, error)
