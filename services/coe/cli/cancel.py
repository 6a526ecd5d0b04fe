"""`coe cancel`: cancels running prompts, for example one that keeps hanging its workers."""

import asyncio
from typing import Annotated

import typer

from coe._proto import events_pb2
from coe.cli.servers import connect
from coe.platform import topics
from coe.platform.bus.api import Outgoing

_REASON = "cancelled by an operator"


def command(
    request_ids: Annotated[list[str], typer.Argument(help="Request ids, as shown in logs and answers.")],
    kafka: Annotated[str | None, typer.Option(help="Bootstrap servers. Default: the running stack's.")] = None,
) -> None:
    """The worker that holds such a prompt ends it with the error `cancelled`. Finished prompts are unaffected."""
    asyncio.run(_cancel(request_ids, kafka))


async def _cancel(request_ids: list[str], kafka: str | None) -> None:
    async with connect(kafka) as bus:
        for request_id in request_ids:
            cancelled = events_pb2.PromptCancelled(request_id=request_id, reason=_REASON)
            await bus.publisher.publish(Outgoing(topics.CANCELLATIONS, request_id, cancelled))
