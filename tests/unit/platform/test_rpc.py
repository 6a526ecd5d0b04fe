"""A real server and channel on loopback: errors, deadlines, health, the announced address."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from coe._proto import gateway_pb2, gateway_pb2_grpc, mapper_pb2, mapper_pb2_grpc, router_pb2, router_pb2_grpc
from coe.platform.errors import (
    DeadlineExceeded,
    ExpertNotFound,
    InternalError,
    PromptTooLarge,
    Unavailable,
    UndecodableMessage,
)
from coe.platform.rpc import server
from coe.platform.rpc.client import calls, channel
from coe.platform.rpc.endpoint import LIVENESS, Endpoint
from coe.platform.rpc.options import MAX_MESSAGE_BYTES
from coe.platform.settings import GrpcSettings


class Mapper(mapper_pb2_grpc.MapperServicer):
    async def Resolve(self, request: mapper_pb2.ResolveRequest, context: Any) -> mapper_pb2.ResolveResponse:
        match request.category:
            case "unknown":
                raise ExpertNotFound("no such expert", expert_id="x")
            case "bug":
                raise KeyError("secret")
            case "slow":
                await asyncio.Event().wait()
        return mapper_pb2.ResolveResponse()


class Gateway(gateway_pb2_grpc.GatewayServicer):
    async def Generate(
        self, request: gateway_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[gateway_pb2.GenerateResponse]:
        yield gateway_pb2.GenerateResponse(accepted=gateway_pb2.GenerateResponse.Accepted(request_id="r"))
        raise ExpertNotFound("gone")


@pytest.fixture
async def endpoint(tmp_path: Path) -> AsyncIterator[Endpoint]:
    endpoint = Endpoint(GrpcSettings(port=0, grace_s=0.1, ready_file=tmp_path / "ready"))
    mapper_pb2_grpc.add_MapperServicer_to_server(Mapper(), endpoint.server)
    gateway_pb2_grpc.add_GatewayServicer_to_server(Gateway(), endpoint.server)
    await endpoint.start(["coe.v1.Mapper", "coe.v1.Gateway"])
    yield endpoint
    await endpoint.stop()


async def resolve(endpoint: Endpoint, category: str, timeout_s: float = 30) -> None:
    async with channel(endpoint.address, timeout_s=timeout_s) as to:
        with calls():
            await mapper_pb2_grpc.MapperStub(to).Resolve(mapper_pb2.ResolveRequest(category=category))


async def test_a_coe_error_arrives_as_itself(endpoint: Endpoint) -> None:
    with pytest.raises(ExpertNotFound, match="no such expert") as caught:
        await resolve(endpoint, "unknown")
    assert caught.value.details == {"expert_id": "x"}


@pytest.mark.parametrize("method", ["/coe.v1.Mapper/Resolve", "/coe.v1.Gateway/Generate"])
async def test_bytes_that_are_no_message_are_refused_and_not_logged_as_a_fault(
    endpoint: Endpoint, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with channel(endpoint.address) as to:
        with pytest.raises(UndecodableMessage), calls():
            await to.unary_stream(method)(b"\xff").read()
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize("serving", [True, False])
async def test_who_waits_is_alive(endpoint: Endpoint, serving: bool) -> None:
    await endpoint.set_serving(serving)
    async with channel(endpoint.address) as to:
        health = health_pb2_grpc.HealthStub(to)
        alive = await health.Check(health_pb2.HealthCheckRequest(service=LIVENESS))
        all_of_it = await health.Check(health_pb2.HealthCheckRequest())
    assert alive.status == health_pb2.HealthCheckResponse.SERVING
    assert (all_of_it.status == health_pb2.HealthCheckResponse.SERVING) is serving


async def test_another_service_is_not_taken_for_the_one_that_was_asked(endpoint: Endpoint) -> None:
    async with channel(endpoint.address) as to:
        with pytest.raises(InternalError, match="another service listens there"), calls():
            await router_pb2_grpc.RouterStub(to).Classify(router_pb2.ClassifyRequest())


@pytest.mark.parametrize("checked_here", [True, False])
async def test_a_message_that_grpc_does_not_take_is_not_to_be_tried_again(
    endpoint: Endpoint, checked_here: bool
) -> None:
    large = mapper_pb2.ResolveRequest(category="x" * MAX_MESSAGE_BYTES)
    async with channel(endpoint.address) if checked_here else grpc.aio.insecure_channel(endpoint.address) as to:
        with pytest.raises(PromptTooLarge, match=str(MAX_MESSAGE_BYTES)), calls():
            await mapper_pb2_grpc.MapperStub(to).Resolve(large)


async def test_a_bug_shows_no_internals(endpoint: Endpoint) -> None:
    with pytest.raises(InternalError) as caught:
        await resolve(endpoint, "bug")
    assert "secret" not in caught.value.message
    assert "trace_id" in caught.value.details


async def test_a_call_without_deadline_gets_one(endpoint: Endpoint) -> None:
    with pytest.raises(DeadlineExceeded):
        await resolve(endpoint, "slow", timeout_s=0.2)


async def generate(endpoint: Endpoint, seen: list[str]) -> None:
    async with channel(endpoint.address) as to:
        with calls():
            async for response in gateway_pb2_grpc.GatewayStub(to).Generate(gateway_pb2.GenerateRequest(), timeout=5):
                seen.append(response.accepted.request_id)


async def test_a_stream_ends_with_the_error(endpoint: Endpoint) -> None:
    seen: list[str] = []
    with pytest.raises(ExpertNotFound, match="gone"):
        await generate(endpoint, seen)
    assert seen == ["r"]


async def test_health_follows(endpoint: Endpoint) -> None:
    async with channel(endpoint.address) as to:
        health = health_pb2_grpc.HealthStub(to)
        asked = health_pb2.HealthCheckRequest(service="coe.v1.Mapper")
        assert (await health.Check(asked)).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await endpoint.set_serving(True)
        assert (await health.Check(asked)).status == health_pb2.HealthCheckResponse.SERVING


async def test_the_address_is_announced(endpoint: Endpoint, tmp_path: Path) -> None:
    assert (tmp_path / "ready").read_text() == f"{endpoint.address}\n"


async def test_a_taken_port_is_one_clear_error(endpoint: Endpoint) -> None:
    port = int(endpoint.address.rpartition(":")[2])
    with pytest.raises(Unavailable, match="can't listen"):
        await Endpoint(GrpcSettings(port=port)).start([])


class Waits(mapper_pb2_grpc.MapperServicer, gateway_pb2_grpc.GatewayServicer):
    def __init__(self) -> None:
        self.began = asyncio.Event()

    async def Resolve(self, request: mapper_pb2.ResolveRequest, context: Any) -> mapper_pb2.ResolveResponse:
        self.began.set()
        await asyncio.Event().wait()
        return mapper_pb2.ResolveResponse()

    async def Generate(
        self, request: gateway_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[gateway_pb2.GenerateResponse]:
        yield gateway_pb2.GenerateResponse()
        self.began.set()
        await asyncio.Event().wait()


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(("expires", "status"), [(False, "CANCELLED"), (True, "DEADLINE_EXCEEDED")])
async def test_a_call_that_was_given_up_is_not_counted_as_answered(
    monkeypatch: pytest.MonkeyPatch, stream: bool, expires: bool, status: str
) -> None:
    counted: asyncio.Queue[tuple[object, object]] = asyncio.Queue()

    class Histogram:
        def record(self, value: float, attributes: Any) -> None:
            counted.put_nowait((attributes["rpc.response.status_code"], attributes["error.type"]))

    monkeypatch.setattr(server, "registry", SimpleNamespace(histogram=lambda _: Histogram()))
    # However long the request was on its way.
    monkeypatch.setattr(server, "_WAY_S", 10.0)
    endpoint, waits = Endpoint(GrpcSettings(port=0, grace_s=0.1)), Waits()
    mapper_pb2_grpc.add_MapperServicer_to_server(waits, endpoint.server)
    gateway_pb2_grpc.add_GatewayServicer_to_server(waits, endpoint.server)
    await endpoint.start([])
    try:
        async with channel(endpoint.address) as to, asyncio.timeout(30):
            if expires:
                # It may expire before it is there.
                while not waits.began.is_set():
                    await asyncio.gather(give_up(to, stream=stream, timeout=0.5), return_exceptions=True)
            else:
                calling = asyncio.create_task(give_up(to, stream=stream, timeout=60))
                await waits.began.wait()
                calling.cancel()
                await asyncio.gather(calling, return_exceptions=True)
            assert await counted.get() == (status, status.lower())
    finally:
        await endpoint.stop()


@pytest.mark.parametrize(
    ("given", "left", "late"),
    [
        (None, None, False),
        (60.0, 40.0, False),
        (60.0, 0.0, True),
        # By the caller's clock, which ran out first.
        (0.5, 0.02, True),
        (121.0, 0.6, True),
        (121.0, 2.0, False),
    ],
)
def test_who_gives_up_at_the_deadline_gives_up_by_it(given: float | None, left: float | None, late: bool) -> None:
    assert server.is_late(given, left) is late


async def give_up(to: Any, *, stream: bool, timeout: float) -> None:
    if not stream:
        await mapper_pb2_grpc.MapperStub(to).Resolve(mapper_pb2.ResolveRequest(), timeout=timeout)
    answers = gateway_pb2_grpc.GatewayStub(to).Generate(gateway_pb2.GenerateRequest(), timeout=timeout)
    try:
        async for _ in answers:
            pass
    finally:
        answers.cancel()


class Floods(gateway_pb2_grpc.GatewayServicer):
    """Whenever it is given up, it is writing."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    async def Generate(
        self, request: gateway_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[gateway_pb2.GenerateResponse]:
        try:
            while True:
                yield gateway_pb2.GenerateResponse(token=gateway_pb2.GenerateResponse.Token(text="x" * 2**20))
        finally:
            self.ended.set()


async def test_a_stream_that_is_given_up_while_it_writes_ends_in_order(caplog: pytest.LogCaptureFixture) -> None:
    endpoint, floods = Endpoint(GrpcSettings(port=0, grace_s=0.1)), Floods()
    gateway_pb2_grpc.add_GatewayServicer_to_server(floods, endpoint.server)
    await endpoint.start([])
    with capture_logs() as said:
        try:
            async with channel(endpoint.address) as to, asyncio.timeout(30):
                call = gateway_pb2_grpc.GatewayStub(to).Generate(gateway_pb2.GenerateRequest())
                await call.read()
                call.cancel()
                await floods.ended.wait()
        finally:
            await endpoint.stop()
    assert not [*caplog.records, *said]
