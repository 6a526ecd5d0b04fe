"""One trace a prompt over all hops: Kafka headers, gRPC metadata, the error of a span, the file of spans."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from coe._proto import events_pb2, mapper_pb2, mapper_pb2_grpc
from coe.platform import topics
from coe.platform.bus.api import Outcome, Outgoing, Record, Subscription
from coe.platform.bus.memory import MemoryBus
from coe.platform.errors import ExpertNotFound, Unavailable
from coe.platform.rpc.client import calls, channel
from coe.platform.rpc.endpoint import Endpoint
from coe.platform.settings import GrpcSettings
from coe.platform.telemetry import messaging, show, w3c
from coe.platform.telemetry import spans as telemetry_spans
from coe.platform.telemetry.file_exporter import FileSpanExporter
from coe.platform.telemetry.sampling import never
from coe.platform.telemetry.show import tree
from coe.platform.terminal import error_outcome
from support.spans import edges, recorder


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    yield recorder()
    telemetry_spans.record(never)


class Mapper(mapper_pb2_grpc.MapperServicer):
    async def Resolve(self, request: mapper_pb2.ResolveRequest, context: Any) -> mapper_pb2.ResolveResponse:
        if request.expert_id == "away":
            raise Unavailable("away")
        if request.expert_id:
            raise ExpertNotFound("no such expert")
        return mapper_pb2.ResolveResponse()


def forward(topic: str) -> Any:
    async def handler(records: Sequence[Record]) -> Sequence[Outcome]:
        key = "r"
        return [Outcome(publish=(Outgoing(topic, key, events_pb2.PromptSubmitted()),)) for _ in records]

    return handler


async def work(bus: MemoryBus, address: str) -> None:
    """Calls another service for each record, as the worker does."""
    async with bus.parallel(Subscription(topics.ASSIGNMENTS, "worker")) as consumer, channel(address) as to:
        async for record in consumer:
            with messaging.handling(record):
                await mapper_pb2_grpc.MapperStub(to).Resolve(mapper_pb2.ResolveRequest())
                await bus.publisher.post(Outgoing(topics.TOKENS, "r", events_pb2.TokenChunk()))
            completed = events_pb2.PromptCompleted(request_id="r")
            await consumer.complete(record, Outcome(publish=(Outgoing(topics.COMPLETIONS, "r", completed),)))


async def test_a_prompt_is_one_trace(spans: InMemorySpanExporter) -> None:
    endpoint = Endpoint(GrpcSettings(grace_s=0))
    mapper_pb2_grpc.add_MapperServicer_to_server(Mapper(), endpoint.server)
    await endpoint.start(["coe.v1.Mapper"])
    bus = MemoryBus()
    tasks = [
        asyncio.create_task(bus.process(Subscription(topics.PROMPTS, "router"), forward(topics.ROUTED))),
        asyncio.create_task(bus.process(Subscription(topics.ROUTED, "mapper"), forward(topics.ASSIGNMENTS))),
        asyncio.create_task(work(bus, endpoint.address)),
    ]
    async with bus.tail([topics.COMPLETIONS, topics.TOKENS]) as records:
        with trace.get_tracer("test").start_as_current_span("client"):
            await bus.publisher.publish(Outgoing(topics.PROMPTS, "r", events_pb2.PromptSubmitted()))
        seen = [await anext(records), await anext(records)]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await endpoint.stop()
    found = spans.get_finished_spans()
    assert edges(found) == {
        ("client", "send coe.prompts.v1"),
        ("send coe.prompts.v1", "process coe.prompts.v1"),
        ("process coe.prompts.v1", "send coe.routed.v1"),
        ("send coe.routed.v1", "process coe.routed.v1"),
        ("process coe.routed.v1", "send coe.assignments.v1"),
        ("send coe.assignments.v1", "process coe.assignments.v1"),
        ("process coe.assignments.v1", "coe.v1.Mapper/Resolve"),
        ("coe.v1.Mapper/Resolve", "coe.v1.Mapper/Resolve"),
        ("process coe.assignments.v1", "send coe.completions.v1"),
    }
    (trace_id,) = {span.get_span_context().trace_id for span in found}
    # Stream chunks have no span of their own, but belong to the trace.
    for record in seen:
        assert trace.format_trace_id(trace_id) in (record.header("traceparent") or "")


@asynccontextmanager
async def mapper() -> AsyncIterator[grpc.aio.Channel]:
    endpoint = Endpoint(GrpcSettings(grace_s=0))
    mapper_pb2_grpc.add_MapperServicer_to_server(Mapper(), endpoint.server)
    await endpoint.start(["coe.v1.Mapper"])
    try:
        async with channel(endpoint.address) as to:
            yield to
    finally:
        await endpoint.stop()


async def test_a_failed_call_says_so_on_both_sides(spans: InMemorySpanExporter) -> None:
    async with mapper() as to:
        with pytest.raises(ExpertNotFound):
            await resolve(to)
    sides = {span.kind: span for span in spans.get_finished_spans()}
    server, client = sides[SpanKind.SERVER], sides[SpanKind.CLIENT]
    assert (server.attributes or {})["error.type"] == "expert_not_found"
    assert (client.attributes or {})["rpc.response.status_code"] == "NOT_FOUND"
    # By the conventions: a caller's mistake is no failure of the server, and every one is the call's.
    assert [span.status.status_code for span in (server, client)] == [StatusCode.UNSET, StatusCode.ERROR]


async def test_a_call_that_the_server_failed_fails_its_span(spans: InMemorySpanExporter) -> None:
    async with mapper() as to:
        with pytest.raises(Unavailable):
            await resolve(to, "away")
    (server,) = (span for span in spans.get_finished_spans() if span.kind is SpanKind.SERVER)
    assert server.status.status_code is StatusCode.ERROR
    assert not server.status.description


async def test_what_goes_wrong_on_the_way_of_a_record_is_not_its_end(spans: InMemorySpanExporter) -> None:
    """A lease that is asked for again, a chunk that the broker does not take."""
    record = Record("t", 0, 0, None, b"", (), 0)
    messaging.start_record(record, "g")
    with pytest.raises(Unavailable), messaging.handling(record):
        raise Unavailable("the broker is away")
    messaging.end_record(record)
    (span,) = spans.get_finished_spans()
    assert span.status.status_code is StatusCode.UNSET


async def resolve(to: Any, expert_id: str = "x") -> None:
    with calls():
        await mapper_pb2_grpc.MapperStub(to).Resolve(mapper_pb2.ResolveRequest(expert_id=expert_id))


async def test_a_record_that_ended_with_an_error_marks_its_span(spans: InMemorySpanExporter) -> None:
    bus = MemoryBus()

    async def refuse(records: Sequence[Record]) -> Sequence[Outcome]:
        return [error_outcome(record, None, ExpertNotFound("no such expert")) for record in records]

    task = asyncio.create_task(bus.process(Subscription(topics.PROMPTS, "router"), refuse))
    async with bus.tail([topics.COMPLETIONS]) as records:
        await bus.publisher.publish(Outgoing(topics.PROMPTS, "r", events_pb2.PromptSubmitted()))
        await anext(records)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (span,) = [span for span in spans.get_finished_spans() if span.name == "process coe.prompts.v1"]
    assert (span.attributes or {})["error.type"] == "expert_not_found"


def test_spans_go_to_a_file_as_lines(tmp_path: Path) -> None:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(FileSpanExporter(tmp_path / "spans.jsonl")))
    with provider.get_tracer("t").start_as_current_span("outer"):
        provider.get_tracer("t").start_span("inner").end()
    provider.shutdown()
    inner, outer = found = [json.loads(line) for line in (tmp_path / "spans.jsonl").read_text().splitlines()]
    assert [line.split("  ")[-1].split(": ")[-1] for line in tree(found).splitlines()] == ["outer", "inner"]
    assert inner["parent_id"] == outer["span_id"]
    assert inner["trace_id"] == outer["trace_id"]


def test_ids_travel_though_nothing_is_recorded() -> None:
    record = Record("t", 0, 0, None, b"", (("traceparent", f"00-{'a' * 32}-{'b' * 16}-00".encode()),), 0)
    messaging.start_record(record, "g")
    span = messaging.start_send("t", "k", messaging.record_span(record))
    assert dict(messaging.trace_headers(span))["traceparent"].startswith(b"00-" + b"a" * 32)
    messaging.end_record(record)


@pytest.mark.parametrize(
    "broken",
    [
        "",
        "00-1-2-01",
        f"00-{'g' * 32}-{'b' * 16}-00",
        f"00-{'0' * 32}-{'b' * 16}-00",
        f"ff-{'a' * 32}-{'b' * 16}-00",
        f"00-{'a' * 32}-{'b' * 16}-00-x",
        f"00-{'A' * 32}-{'b' * 16}-00",
    ],
)
def test_a_broken_traceparent_counts_as_none(broken: str) -> None:
    assert w3c.parse({"traceparent": broken}.get) is None


def test_a_trace_context_comes_back_as_it_was() -> None:
    sent = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}
    context = w3c.parse(sent.get)
    assert context is not None
    assert dict(w3c.headers(context)) == sent


@pytest.mark.parametrize("state", ["x" * 2_000_000, ",".join(f"v{number}={'s' * 250}" for number in range(20))])
def test_an_endless_trace_state_is_dropped_unread(state: str, caplog: pytest.LogCaptureFixture) -> None:
    sent = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": state}
    context = w3c.parse(sent.get)
    assert context is not None
    assert [name for name, _ in w3c.headers(context)] == ["traceparent"]
    assert not caplog.records


def test_a_client_without_telemetry_leaves_the_decision_to_the_next_hop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_spans, "_sample", None)
    assert messaging.trace_headers(messaging.start_send("t", "k")) == []
    monkeypatch.setattr(telemetry_spans, "_sample", never)
    assert dict(messaging.trace_headers(messaging.start_send("t", "k")))["traceparent"].endswith(b"-00")


def test_a_file_without_traces_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "traces.jsonl"
    with pytest.raises(SystemExit, match=r"traces\.jsonl holds no traces: .*No such file"):
        show.main(str(file))
    file.touch()
    show.main(str(file), "abc")
    assert capsys.readouterr().out == f"{file} holds no trace abc\n"
