"""The gRPC service coe.v1.Router."""

from collections.abc import Awaitable, Callable

import grpc.aio

from coe._proto import common_pb2, router_pb2, router_pb2_grpc
from coe.platform import prompts
from coe.router.prompt import classified_text


class RouterServicer(router_pb2_grpc.RouterServicer):
    def __init__(self, classify: Callable[[str], Awaitable[common_pb2.RoutingDecision]], *, max_bytes: int) -> None:
        self._classify = classify
        self._max_bytes = max_bytes

    async def Classify(
        self,
        request: router_pb2.ClassifyRequest,
        context: grpc.aio.ServicerContext[router_pb2.ClassifyRequest, router_pb2.ClassifyResponse],
    ) -> router_pb2.ClassifyResponse:
        prompts.check_text(request.prompt, request.messages, request.tools, max_bytes=self._max_bytes)
        decision = await self._classify(classified_text(request.prompt, request.messages, request.tools))
        return router_pb2.ClassifyResponse(routing=decision)
