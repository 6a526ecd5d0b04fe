"""The gRPC service coe.v1.Mapper."""

from collections.abc import Callable

import grpc.aio

from coe._proto import mapper_pb2, mapper_pb2_grpc
from coe.mapper.handler import resolve
from coe.mapper.state import State


class MapperServicer(mapper_pb2_grpc.MapperServicer):
    def __init__(self, state: Callable[[], State]) -> None:
        self._state = state

    async def Resolve(
        self,
        request: mapper_pb2.ResolveRequest,
        context: grpc.aio.ServicerContext[mapper_pb2.ResolveRequest, mapper_pb2.ResolveResponse],
    ) -> mapper_pb2.ResolveResponse:
        state = self._state()
        assignment = resolve(
            state.mapping, state.hosted, request.expert_id, request.category, request.subcategory, request.budget
        )
        return mapper_pb2.ResolveResponse(assignment=assignment)
