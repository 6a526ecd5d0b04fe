"""Consumes, handles, publishes and commits batches of cheap work."""

import asyncio
from collections.abc import Sequence
from functools import partial

import structlog

from coe.platform.bus.api import BatchHandler, Outcome, Record, Subscription
from coe.platform.bus.handle import handle
from coe.platform.bus.kafka.membership import Membership
from coe.platform.bus.kafka.session import PartitionSession
from coe.platform.bus.messages import messages, refused

_log = structlog.stdlib.get_logger(__name__)

DRAIN_S = 10.0
# Maximum number of batches handled but not committed.
_BATCHES_AHEAD = 8

Taken = tuple[PartitionSession, Record]


async def process(membership: Membership, subscription: Subscription, handler: BatchHandler, source: str) -> None:
    """Runs until cancelled, then drains what it has taken, for at most 10 s. Raises the first error of its tasks."""
    stopping = asyncio.Event()
    loop = asyncio.create_task(_loop(membership, subscription, handler, source, stopping))
    try:
        await asyncio.shield(loop)
    except ExceptionGroup as errors:
        raise (first := errors.exceptions[0]) from first.__cause__
    except asyncio.CancelledError:
        stopping.set()
        await asyncio.wait({loop}, timeout=DRAIN_S)
        raise
    finally:
        loop.cancel()
        await asyncio.gather(loop, return_exceptions=True)
        await membership.stop()


async def _loop(
    membership: Membership, subscription: Subscription, handler: BatchHandler, source: str, stopping: asyncio.Event
) -> None:
    """Handles batches while earlier ones are being committed. A transaction takes along all that is ready by then."""
    committing: set[asyncio.Task[None]] = set()
    most = subscription.max_batch * _BATCHES_AHEAD
    async with asyncio.TaskGroup() as group:
        while not stopping.is_set():
            found = await membership.poll(subscription.max_batch)
            taken = [(session, record) for session, record in found if session.take(record)]
            if not taken:
                continue
            outcomes = await handle(handler, [record for _, record in taken])
            commit = group.create_task(_commit(taken, outcomes, source))
            committing.add(commit)
            commit.add_done_callback(committing.discard)
            while membership.in_flight > most and committing:
                await asyncio.wait(committing, return_when=asyncio.FIRST_COMPLETED)


async def _commit(taken: Sequence[Taken], outcomes: Sequence[Outcome], source: str) -> None:
    """Publishes and commits a batch. Records of revoked partitions are left to the new owners."""
    commits = []
    for (session, record), outcome in zip(taken, outcomes, strict=True):
        attempt = session.ledger.attempt(record.offset)
        out = messages(record, outcome, source, attempt)
        commits.append(session.complete(record, out, partial(refused, record, outcome, source, attempt)))
    if held := [committed for committed in commits if committed is not None]:
        await asyncio.wait(held)
