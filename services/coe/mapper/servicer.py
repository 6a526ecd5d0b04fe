"""The gRPC service coe.v1.Mapper."""

import asyncio
from collections.abc import Callable

import grpc.aio

from coe._proto import mapper_pb2, mapper_pb2_grpc
from coe.mapper.handler import resolve
from coe.mapper.state import State
from coe.platform import prompts


class MapperServicer(mapper_pb2_grpc.MapperServicer):
    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    async def Resolve(
        self,
        request: mapper_pb2.ResolveRequest,
        context: grpc.aio.ServicerContext[mapper_pb2.ResolveRequest, mapper_pb2.ResolveResponse],
    ) -> mapper_pb2.ResolveResponse:
        """Resolves a category or an expert to an assignment. Raises InvalidPrompt or ExpertNotFound."""
        names = {name: getattr(request, name) for name in ("expert_id", "category", "subcategory")}
        prompts.check_names({**names, "budget": request.budget.name})
        state = self._state()
        # Off the event loop: solving for a new budget takes a while.
        assignment = await asyncio.to_thread(
            resolve,
            state.mapping,
            state.hosted,
            request.expert_id,
            request.category,
            request.subcategory,
            request.budget,
        )
        return mapper_pb2.ResolveResponse(assignment=assignment)
