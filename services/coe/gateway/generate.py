"""gRPC `Generate`: takes a prompt and streams its events."""

import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from uuid import uuid4

import grpc.aio

from coe._proto import events_pb2, gateway_pb2, gateway_pb2_grpc
from coe.client.events import Completed, Event, Loading, Routed, Text
from coe.gateway.admission import admit, id_of
from coe.gateway.keys import ApiKeys
from coe.gateway.settings import GatewaySettings
from coe.gateway.tenants import Prompts
from coe.platform.errors import from_proto

Context = grpc.aio.ServicerContext[gateway_pb2.GenerateRequest, gateway_pb2.GenerateResponse]
Response = gateway_pb2.GenerateResponse


class GatewayServicer(gateway_pb2_grpc.GatewayServicer):
    """Raises CoEErrors; the server's interceptor turns them into rich statuses."""

    def __init__(self, prompts: Prompts, *, keys: ApiKeys, settings: GatewaySettings, max_prompt_bytes: int) -> None:
        self._prompts = prompts
        self._keys = keys
        self._settings = settings
        self._max_prompt_bytes = max_prompt_bytes

    async def Generate(self, request: gateway_pb2.GenerateRequest, context: Context) -> AsyncIterator[Response]:
        authorization = dict(context.invocation_metadata() or ()).get("authorization")
        tenant = self._keys.tenant(authorization if isinstance(authorization, str) else None)
        timeout_s = self._settings.deadline_s(context.time_remaining())
        prompt = admit(
            request.prompt,
            request_id=id_of(tenant, request.prompt.request_id or uuid4().hex),
            now_ms=time.time_ns() // 1_000_000,
            timeout_s=timeout_s,
            max_prompt_bytes=self._max_prompt_bytes,
            tenant=tenant,
        )
        yield Response(accepted=Response.Accepted(request_id=prompt.request_id))
        sequence = 0
        async with aclosing(self._prompts.submit(prompt, timeout_s=timeout_s)) as events:
            async for event in events:
                for response in responses(event, sequence):
                    yield response
                sequence += isinstance(event, Text)


def responses(event: Event, sequence: int) -> list[Response]:
    """Converts an event to the stream's messages. Raises a failed prompt's CoEError."""
    match event:
        case Routed(routing, assignment):
            return [Response(routed=Response.Routed(routing=routing, assignment=assignment))]
        case Loading(expert_id, tier):
            return [Response(loading=events_pb2.TokenChunk.Loading(expert_id=expert_id, tier=tier))]
        case Text(text, attempt, logprobs):
            token = Response.Token(text=text, sequence=sequence, attempt=attempt, logprobs=logprobs)
            return [Response(token=token)]
        case Completed(result):
            if result.WhichOneof("outcome") == "error":
                raise from_proto(result.error)
            done = Response.Done(
                finish_reason=result.completion.finish_reason,
                text=result.completion.text,
                timings=result.timings,
                tiers=result.tiers,
                tool_calls=result.completion.tool_calls,
                logprobs=result.completion.logprobs,
                prompt_logprobs=result.completion.prompt_logprobs,
            )
            return [Response(usage=result.usage), Response(done=done)]
