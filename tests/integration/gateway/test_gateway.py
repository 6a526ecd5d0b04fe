"""The gateway's two faces over the bus: what gRPC and HTTP clients get, and what happens when they go away."""

import asyncio
import json
from collections.abc import AsyncIterator

import grpc
import grpc.aio
import httpx
import pytest

from coe._proto import events_pb2, gateway_pb2, gateway_pb2_grpc
from coe.client.ended import Ended
from coe.client.prompts import PromptClient
from coe.gateway.generate import GatewayServicer
from coe.gateway.http import HttpApi
from coe.gateway.server import HttpServer
from coe.gateway.settings import GatewaySettings
from coe.local.ports import free_port
from coe.platform import topics
from coe.platform.bus.memory import MemoryBroker, MemoryBus
from coe.platform.rpc.endpoint import Endpoint
from coe.platform.settings import GrpcSettings
from support.deadlines import until
from support.pipeline import EXPERT, Pipeline, pipeline

LIMIT = 1000


@pytest.fixture
async def path() -> AsyncIterator[Pipeline]:
    async with pipeline(MemoryBroker()) as path:
        yield path


@pytest.fixture
async def prompts(path: Pipeline) -> AsyncIterator[PromptClient]:
    bus = MemoryBus(path.bus.broker, source="test/gateway")
    await bus.start()
    async with PromptClient(bus, max_streams=2, ended=Ended(600, 2**20)) as client:
        yield client
    await bus.stop()


@pytest.fixture
async def stub(prompts: PromptClient) -> AsyncIterator[gateway_pb2_grpc.GatewayStub]:
    endpoint = Endpoint(GrpcSettings(grace_s=1))
    servicer = GatewayServicer(prompts, default_deadline_s=20, max_prompt_bytes=LIMIT)
    gateway_pb2_grpc.add_GatewayServicer_to_server(servicer, endpoint.server)
    await endpoint.start(["coe.v1.Gateway"])
    async with grpc.aio.insecure_channel(endpoint.address) as channel:
        yield gateway_pb2_grpc.GatewayStub(channel)
    await endpoint.stop()


@pytest.fixture
async def http(prompts: PromptClient) -> AsyncIterator[httpx.AsyncClient]:
    async def experts() -> list[str]:
        return [EXPERT]

    async def healthy() -> bool:
        return True

    api = HttpApi(prompts, experts=experts, healthy=healthy, deadline_s=20, max_prompt_bytes=LIMIT, hold_s=2)
    transport = httpx.ASGITransport(api.app())
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        yield client


@pytest.fixture
async def served(prompts: PromptClient) -> AsyncIterator[str]:
    """The URL of the API on a real HTTP server: one that notices when a client goes away."""

    async def experts() -> list[str]:
        return [EXPERT]

    async def healthy() -> bool:
        return True

    api = HttpApi(prompts, experts=experts, healthy=healthy, deadline_s=60, max_prompt_bytes=LIMIT, hold_s=0.2)
    port = free_port()
    serving = asyncio.ensure_future(HttpServer(api.app(), GatewaySettings(http_port=port)).run_until_cancelled())
    url = f"http://127.0.0.1:{port}"

    async def answers() -> bool:
        async with httpx.AsyncClient() as client:
            try:
                return (await client.get(f"{url}/health")).status_code == 200
            except httpx.ConnectError:
                return False

    await until(answers)
    yield f"{url}/v1/chat/completions"
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)


def request(prompt: str, expert: str = "") -> gateway_pb2.GenerateRequest:
    return gateway_pb2.GenerateRequest(prompt=events_pb2.PromptSubmitted(prompt=prompt, expert_id=expert))


def chat(prompt: str, **fields: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": prompt}], **fields}


async def test_generate_streams_the_whole_answer_in_order(stub: gateway_pb2_grpc.GatewayStub) -> None:
    responses = [response async for response in stub.Generate(request("olleh"), timeout=20)]
    kinds = [response.WhichOneof("event") for response in responses]
    assert kinds[:2] == ["accepted", "routed"]
    assert kinds[-2:] == ["usage", "done"]
    assert "".join(response.token.text for response in responses) == responses[-1].done.text == "hello"


@pytest.mark.parametrize(
    ("prompt", "expert", "code"),
    [
        ("hello", "missing", grpc.StatusCode.NOT_FOUND),
        ("", "", grpc.StatusCode.INVALID_ARGUMENT),
        ("x" * (LIMIT + 1), "", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_generate_fails_with_the_status_of_the_error(
    stub: gateway_pb2_grpc.GatewayStub, prompt: str, expert: str, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [response async for response in stub.Generate(request(prompt, expert), timeout=20)]
    assert caught.value.code() is code


async def test_a_client_that_goes_away_cancels_its_prompt(stub: gateway_pb2_grpc.GatewayStub, path: Pipeline) -> None:
    call = stub.Generate(request("hello", "silent"), timeout=20)
    accepted = (await call.read()).accepted
    call.cancel()
    assert await asyncio.wait_for(path.cancelled.get(), 10) == accepted.request_id


@pytest.mark.parametrize("expert", ["", "missing"])
async def test_a_prompt_that_has_ended_ends_the_same_when_it_is_submitted_again(
    stub: gateway_pb2_grpc.GatewayStub, path: Pipeline, expert: str
) -> None:
    async def ask(prompt: str) -> tuple[str, grpc.StatusCode]:
        asked = events_pb2.PromptSubmitted(request_id="mine", prompt=prompt, expert_id=expert)
        call = stub.Generate(gateway_pb2.GenerateRequest(prompt=asked), timeout=20)
        try:
            return [response async for response in call][-1].done.text, await call.code()
        except grpc.aio.AioRpcError as error:
            return "", error.code()

    first = await ask("olleh")
    assert first == (("", grpc.StatusCode.NOT_FOUND) if expert else ("hello", grpc.StatusCode.OK))
    published = sum(map(len, path.bus.broker.partitions(topics.PROMPTS)))
    assert await ask("something else") == first
    assert sum(map(len, path.bus.broker.partitions(topics.PROMPTS))) == published


async def test_streams_are_bounded(prompts: PromptClient) -> None:
    held = [prompts.submit(events_pb2.PromptSubmitted(prompt="a", expert_id="silent"), timeout_s=20) for _ in range(2)]
    waiting = [asyncio.ensure_future(anext(events)) for events in held]
    await asyncio.sleep(0)  # each has taken its place
    with pytest.raises(Exception, match="too many prompts"):
        await anext(prompts.submit(events_pb2.PromptSubmitted(prompt="b"), timeout_s=20))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_chat_completion_names_the_expert_and_counts_tokens(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/chat/completions", json=chat("olleh"))
    assert answer.status_code == 200
    body = answer.json()
    assert body["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "hello"},
        "finish_reason": "stop",
    }
    assert (body["model"], body["usage"]["total_tokens"]) == (EXPERT, 5)
    assert "coe" not in body
    assert answer.headers["x-coe-category"] == "math"


async def test_an_answer_explains_itself_when_asked(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/chat/completions", json=chat("olleh", explain=True))
    assert answer.json()["coe"]["routing"]["category"] == "math"
    assert answer.json()["coe"]["assignment"]["expert_id"] == EXPERT
    answer = await http.post("/v1/chat/completions", json=chat("olleh", explain=True, stream=True))
    first, *others = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert first["coe"]["assignment"]["expert_id"] == EXPERT
    assert not any("coe" in other for other in others)


async def test_chat_stream_is_server_sent_events_up_to_done(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/chat/completions", json=chat("olleh", stream=True))
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
    assert "".join(delta.get("content", "") for delta in deltas) == "hello"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (chat("hello", model="missing"), 404, "expert_not_found"),
        (chat("x" * (LIMIT + 1)), 413, "prompt_too_large"),
        (chat("hello", temperature=9), 400, "invalid_prompt"),
        ({"messages": "no list"}, 400, "invalid_prompt"),
        (chat("hello", seed=2**64), 400, "invalid_prompt"),
    ],
)
async def test_chat_errors_have_status_and_code(
    http: httpx.AsyncClient, body: dict[str, object], status: int, code: str
) -> None:
    answer = await http.post("/v1/chat/completions", json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_an_error_before_the_first_text_of_a_stream_has_its_status(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/chat/completions", json=chat("hello", model="small", stream=True))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_exceeded")
    assert answer.headers["content-type"] == "application/json"


async def test_an_error_after_the_first_text_of_a_stream_is_its_last_event(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/chat/completions", json=chat("hello", model="broken", stream=True))
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]
    assert answer.status_code == 200
    assert events[1]["choices"][0]["delta"]["content"] == "ol"
    assert events[-1]["error"]["code"] == "context_exceeded"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_http_client_that_goes_away_cancels_its_prompt(served: str, path: Pipeline, stream: bool) -> None:
    """Before the head of the answer is sent, whatever kind of answer it wants."""
    async with httpx.AsyncClient() as client, path.bus.tail((topics.ASSIGNMENTS,)) as records:
        asking = asyncio.ensure_future(client.post(served, json=chat("hello", model="slow", stream=stream)))
        assigned = events_pb2.PromptAssigned.FromString((await anext(records)).value)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
    assert await asyncio.wait_for(path.cancelled.get(), 10) == assigned.prompt.request_id


async def test_the_head_of_a_stream_waits_for_so_long_only(served: str, path: Pipeline) -> None:
    async with (
        httpx.AsyncClient() as client,
        client.stream("POST", served, json=chat("hello", model="slow", stream=True), timeout=20) as answer,
    ):
        assert answer.status_code == 200
        assert answer.headers["x-coe-expert"] == EXPERT
        lines = answer.aiter_lines()
        assert json.loads((await anext(lines)).removeprefix("data: "))["choices"][0]["delta"]["role"] == "assistant"
    # And what is left then is cancelled as ever.
    assert await asyncio.wait_for(path.cancelled.get(), 10) == answer.headers["x-request-id"]


async def test_a_body_beyond_every_bound_is_refused_before_it_is_read(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/chat/completions", content=b" " * (6 * LIMIT + 1))
    assert answer.status_code == 413


async def test_models_and_health(http: httpx.AsyncClient) -> None:
    models = (await http.get("/v1/models")).json()["data"]
    assert [model["id"] for model in models] == ["coe-auto", "coe-quality", "coe-balanced", "coe-economy", EXPERT]
    assert (await http.get(f"/v1/models/{EXPERT}")).json() == models[-1]
    assert (await http.get("/v1/models/missing")).json()["error"]["code"] == "expert_not_found"
    assert (await http.get("/health")).status_code == 200


async def test_a_refusal_names_the_field(http: httpx.AsyncClient) -> None:
    image = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]
    for extra, param, message in (
        ({"messages": image}, "messages.0.content.0.type", "messages.0.content.0.type: Input should be 'text'"),
        ({"functions": []}, "functions", "functions: not supported"),
    ):
        answer = await http.post("/v1/chat/completions", json=chat("hello") | extra)
        assert (answer.json()["error"]["param"], answer.json()["error"]["message"]) == (param, message)
    answer = await http.post("/v1/chat/completions", content=b"{")
    assert answer.json()["error"]["param"] is None


async def test_what_is_not_served_is_an_error_as_any_other(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/embeddings", json={})
    assert (answer.status_code, answer.json()["error"]["message"]) == (404, "POST /v1/embeddings: Not Found")
    answer = await http.get("/v1/chat/completions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
