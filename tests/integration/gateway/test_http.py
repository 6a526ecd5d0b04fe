"""The gateway over HTTP, as OpenAI's clients use it."""

import asyncio
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.types import Message

from coe._proto import events_pb2
from coe.client.prompts import PromptClient
from coe.gateway.keys import ApiKeys
from coe.gateway.settings import GatewaySettings
from coe.platform import topics
from coe.platform.telemetry import names, registry
from support.gateway import CHAT, COMPLETIONS, LIMIT, RESPONSES, chat, client_of, http_api
from support.pipeline import EXPERT, Pipeline


async def test_chat_completion_names_the_expert_and_counts_tokens(http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, json=chat("olleh"))
    assert answer.status_code == 200
    body = answer.json()
    assert body["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "hello"},
        "finish_reason": "stop",
    }
    assert (body["model"], body["usage"]["total_tokens"]) == (EXPERT, 5)
    assert body["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}
    assert "coe" not in body
    assert answer.headers["x-coe-category"] == "math"


async def test_an_answer_explains_itself_when_asked(http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, json=chat("olleh", explain=True))
    assert answer.json()["coe"]["routing"]["category"] == "math"
    assert answer.json()["coe"]["assignment"]["expert_id"] == EXPERT
    answer = await http.post(CHAT, json=chat("olleh", explain=True, stream=True))
    first, *others = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert first["coe"]["assignment"]["expert_id"] == EXPERT
    assert not any("coe" in other for other in others)


async def test_chat_stream_is_server_sent_events_up_to_done(http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, json=chat("olleh", stream=True))
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    deltas = [json.loads(line)["choices"][0]["delta"] for line in lines]
    assert "".join(delta.get("content", "") for delta in deltas) == "hello"


async def test_how_likely_tokens_were_is_told_in_whole_answers_and_in_streams(http: httpx.AsyncClient) -> None:
    asked = chat("olleh", logprobs=True, top_logprobs=1)
    content = (await http.post(CHAT, json=asked)).json()["choices"][0]["logprobs"]["content"]
    assert [token["token"] for token in content] == ["he", "llo"]
    assert [len(token["top_logprobs"]) for token in content] == [1, 1]
    answer = await http.post(CHAT, json=asked | {"stream": True})
    choices = [json.loads(line[6:])["choices"][0] for line in answer.text.splitlines() if line.startswith("data: {")]
    assert [one for choice in choices for one in choice.get("logprobs", {}).get("content", [])] == content


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
    answer = await http.post(CHAT, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_an_error_before_the_first_text_of_a_stream_has_its_status(http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, json=chat("hello", model="small", stream=True))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_exceeded")
    assert answer.headers["content-type"] == "application/json"


async def test_an_error_after_the_first_text_of_a_stream_is_its_last_event(http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, json=chat("hello", model="broken", stream=True))
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
    answer = await http.post(CHAT, content=b" " * (6 * LIMIT + 1))
    assert answer.status_code == 413


async def test_models_and_health(http: httpx.AsyncClient) -> None:
    models = (await http.get("/v1/models")).json()["data"]
    assert [model["id"] for model in models] == ["coe-auto", "coe-quality", "coe-balanced", "coe-economy", EXPERT]
    assert (await http.get(f"/v1/models/{EXPERT}")).json() == models[-1]
    assert (await http.get("/v1/models/missing")).json()["error"]["code"] == "expert_not_found"
    assert (await http.get("/health")).status_code == 200


async def test_no_expert_is_denied_while_none_is_known(prompts: PromptClient) -> None:
    hosted: list[str] = []
    async with client_of(http_api(prompts, GatewaySettings(), hosted=hosted)) as client:
        answer = await client.get(f"/v1/models/{EXPERT}")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
        assert answer.headers["x-should-retry"] == "true"
        assert (await client.get("/v1/models/coe-auto")).status_code == 200
        hosted.append(EXPERT)
        assert (await client.get(f"/v1/models/{EXPERT}")).status_code == 200
        hosted.clear()
        assert (await client.get(f"/v1/models/{EXPERT}")).status_code == 200
        assert (await client.get("/v1/models")).json()["data"][-1]["id"] == EXPERT
        assert (await client.get("/v1/models/missing")).status_code == 404


@pytest.mark.parametrize(
    ("extra", "param", "message"),
    [
        ({"functions": []}, "functions", "not supported"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type", "only 'function' is supported"),
        ({"top-k": 1}, "top-k", "not supported"),
        ({"tool_choice": "always"}, "tool_choice", "only 'none', 'auto' or 'required' is supported"),
        ({"n": 2}, "n", "only 1 is supported"),
        ({"top_logprobs": 1}, "top_logprobs", "needs logprobs: true"),
        ({"stop": 5}, "stop", "Input should be a valid array"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0", "a message needs content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
            "messages.0.content.0.type",
            "only 'text' is supported",
        ),
        (
            {"messages": [{"role": "assistant", "content": "x", "tool_calls": [{"id": "1"}]}]},
            "messages.0.tool_calls.0.function",
            "Field required",
        ),
    ],
)
async def test_a_refusal_names_the_field(
    http: httpx.AsyncClient, extra: dict[str, object], param: str, message: str
) -> None:
    error = (await http.post(CHAT, json=chat("hello") | extra)).json()["error"]
    assert (error["param"], error["message"]) == (param, f"{param}: {message}")


@pytest.mark.parametrize("extra", [{"top_p": 0}, {"stop": ""}, {"stop": ["x"] * 17}])
async def test_sampling_that_no_expert_takes_is_refused_before_it_is_routed(
    http: httpx.AsyncClient, path: Pipeline, extra: dict[str, object]
) -> None:
    answer = await http.post(CHAT, json=chat("hello") | extra)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, *extra)
    assert not any(path.bus.broker.partitions(topics.PROMPTS))


async def test_a_body_that_is_no_json_names_no_field(http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, content=b"{")
    assert answer.json()["error"]["param"] is None


async def test_a_packed_body_is_refused_by_the_name_of_its_packing(http: httpx.AsyncClient) -> None:
    packed = gzip.compress(json.dumps(chat("hello")).encode())
    answer = await http.post(CHAT, content=packed, headers={"content-encoding": "gzip"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_media_type")
    assert "gzip" in answer.json()["error"]["message"]
    assert answer.headers["accept-encoding"] == "identity"
    answer = await http.post(CHAT, json=chat("olleh"), headers={"content-encoding": "identity"})
    assert answer.status_code == 200


async def test_what_is_not_served_is_an_error_as_any_other(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/embeddings", json={})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["message"]) == (404, "not_found", "POST /v1/embeddings: Not Found")
    answer = await http.get(CHAT)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert answer.json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    ("model", "status", "again"), [("missing", 404, "false"), ("silent", 504, "false"), ("lost", 503, "true")]
)
async def test_an_error_says_whether_to_try_again_and_which_request_it_was(
    prompts: PromptClient, model: str, status: int, again: str
) -> None:
    """OpenAI's clients try every 5xx again otherwise: three prompts for each that was too slow."""
    async with client_of(http_api(prompts, GatewaySettings(default_deadline_s=0.3))) as client:
        answer = await client.post(CHAT, json=chat("hello", model=model))
    assert (answer.status_code, answer.headers["x-should-retry"]) == (status, again)
    assert ("retry-after" in answer.headers) == (again == "true")
    assert len(answer.headers["x-request-id"]) == 32


async def test_a_failure_inside_shows_no_internals(prompts: PromptClient) -> None:
    class Broken(ApiKeys):
        def tenant(self, authorization: str | None) -> str | None:
            raise RuntimeError("a secret")

    settings = GatewaySettings(cors_origins="https://a.example")
    async with client_of(http_api(prompts, settings, Broken(None))) as client:
        answer = await client.get("/v1/models", headers={"origin": "https://a.example"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal")
    assert answer.headers["access-control-allow-origin"] == "https://a.example"
    assert "secret" not in answer.text
    assert answer.headers["x-request-id"]


async def test_a_request_may_name_its_deadline_up_to_the_longest(prompts: PromptClient, path: Pipeline) -> None:
    settings = GatewaySettings(default_deadline_s=60, max_deadline_s=90)
    async with client_of(http_api(prompts, settings)) as client, path.bus.tail((topics.PROMPTS,)) as records:
        for asked, given in (("0.5", 0.5), ("1000", 90), (None, 60)):
            headers = {} if asked is None else {"x-coe-timeout-s": asked}
            await client.post(CHAT, json=chat("olleh"), headers=headers)
            prompt = events_pb2.PromptSubmitted.FromString((await anext(records)).value)
            assert prompt.deadline_ms - prompt.submitted_at_ms == given * 1000
        for wrong in ("soon", "0", "-1", "nan", "inf"):
            answer = await client.post(CHAT, json=chat("olleh"), headers={"x-coe-timeout-s": wrong})
            assert (answer.status_code, answer.json()["error"]["param"]) == (400, "x-coe-timeout-s")


async def test_the_same_idempotency_key_is_the_same_prompt(http: httpx.AsyncClient, path: Pipeline) -> None:
    mine = {"idempotency-key": "k1"}
    first, second = [await http.post(CHAT, json=chat("olleh"), headers=mine) for _ in range(2)]
    assert first.json()["id"] == second.json()["id"]
    assert sum(map(len, path.bus.broker.partitions(topics.PROMPTS))) == 1
    others = [{"idempotency-key": "k2"}, mine | {"authorization": "Bearer another"}, {}]
    ids = {(await http.post(CHAT, json=chat("olleh"), headers=headers)).json()["id"] for headers in others}
    assert len(ids | {first.json()["id"]}) == 4
    another = await http.post(CHAT, json=chat("something else"), headers=mine)
    assert (another.status_code, another.headers["x-should-retry"]) == (422, "false")
    error = another.json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "request_id_reused")


async def test_a_text_goes_on_as_it_is(http: httpx.AsyncClient, path: Pipeline) -> None:
    async with path.bus.tail((topics.PROMPTS,)) as records:
        answer = await http.post(COMPLETIONS, json={"prompt": "olleh", "logprobs": 0, "explain": True})
        prompt = events_pb2.PromptSubmitted.FromString((await anext(records)).value)
        assert (prompt.prompt, prompt.raw) == ("olleh", True)
    assert answer.headers["x-coe-expert"] == EXPERT
    (choice,) = answer.json()["choices"]
    assert (choice["text"], choice["logprobs"]["tokens"]) == ("hello", ["he", "llo"])
    assert answer.json()["coe"]["assignment"]["expert_id"] == EXPERT
    answer = await http.post(COMPLETIONS, json={"prompt": "olleh", "stream": True})
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    assert lines.pop() == "[DONE]"
    assert "".join(json.loads(line)["choices"][0]["text"] for line in lines) == "hello"
    refused = (await http.post(COMPLETIONS, json={"prompt": ["a", "b"]})).json()["error"]
    assert (refused["param"], refused["code"]) == ("prompt", "invalid_prompt")
    assert (await http.get(COMPLETIONS)).headers["allow"] == "POST"


async def test_a_response_comes_whole_and_by_named_events(http: httpx.AsyncClient) -> None:
    asked = {"input": "olleh", "explain": True}
    answer = await http.post(RESPONSES, json=asked)
    whole = answer.json()
    assert (whole["id"], whole["model"]) == (f"resp_{answer.headers['x-request-id']}", EXPERT)
    assert (whole["output"][0]["content"][0]["text"], whole["store"]) == ("hello", False)
    assert whole["coe"]["assignment"]["expert_id"] == EXPERT == answer.headers["x-coe-expert"]
    answer = await http.post(RESPONSES, json=asked | {"stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.text.splitlines()
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    events = [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: ")]
    assert names == [event["type"] for event in events]
    assert (names[0], names[-1]) == ("response.created", "response.completed")
    assert "".join(event.get("delta", "") for event in events) == "hello"


async def test_a_response_that_fails_under_way_says_so_by_its_last_events(http: httpx.AsyncClient) -> None:
    answer = await http.post(RESPONSES, json={"input": "hello", "model": "broken", "stream": True})
    *_, error, failed = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: ")]
    assert (error["type"], error["code"]) == ("error", "context_exceeded")
    assert (failed["type"], failed["response"]["status"]) == ("response.failed", "failed")


async def test_nothing_of_a_response_is_kept(http: httpx.AsyncClient) -> None:
    answer = await http.post(RESPONSES, json={"input": "hello", "store": True})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "store")
    answer = await http.get(f"{RESPONSES}/resp_1")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")
    assert (await http.get(RESPONSES)).headers["allow"] == "POST"


async def test_a_conversation_is_named_by_its_cache_key(http: httpx.AsyncClient, path: Pipeline) -> None:
    async with path.bus.tail((topics.PROMPTS,)) as records:
        await http.post(CHAT, json=chat("olleh", prompt_cache_key="talk"))
        assert events_pb2.PromptSubmitted.FromString((await anext(records)).value).conversation_id == "talk"


async def test_a_page_of_a_named_origin_may_ask(prompts: PromptClient) -> None:
    settings = GatewaySettings(cors_origins="https://a.example, https://b.example")
    asks = {"access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type"}
    async with client_of(http_api(prompts, settings)) as client:
        for origin, status in (("https://b.example", 200), ("https://c.example", 400)):
            answer = await client.options(RESPONSES, headers=asks | {"origin": origin})
            assert answer.status_code == status
            assert answer.headers.get("access-control-allow-origin") == (origin if status == 200 else None)
        answer = await client.post(CHAT, json=chat("olleh"), headers={"origin": "https://a.example"})
        assert answer.headers["access-control-expose-headers"] == "*"


async def test_who_has_no_key_is_refused_and_who_has_one_is_its_tenant(
    prompts: PromptClient, path: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "keys.yaml").write_text("acme: sk-1")
    keys = ApiKeys(tmp_path / "keys.yaml")
    keys.load()
    async with client_of(http_api(prompts, GatewaySettings(), keys)) as client:
        for headers in ({}, {"authorization": "Bearer sk-2"}):
            for answer in (await client.get("/v1/models", headers=headers), await client.post(CHAT, headers=headers)):
                assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
                assert answer.headers["www-authenticate"] == "Bearer"
        assert (await client.get("/health")).status_code == 200
        async with path.bus.tail((topics.PROMPTS,)) as records:
            mine = {"authorization": "Bearer sk-1"}
            await client.post(CHAT, json=chat("olleh", user="labs"), headers=mine)
            assert events_pb2.PromptSubmitted.FromString((await anext(records)).value).tenant == "acme"


async def test_requests_are_measured_by_route_and_status(http: httpx.AsyncClient) -> None:
    measured = registry.histogram("http.server.request.duration")

    def counts() -> dict[tuple[object, ...], int]:
        metric = measured.collect(0)
        wanted = (names.HTTP_METHOD, names.HTTP_ROUTE, names.HTTP_STATUS, names.ERROR_TYPE)
        points = metric.data.data_points if metric else []
        return {tuple((point.attributes or {}).get(name) for name in wanted): point.count for point in points}

    before = counts()
    await http.post(CHAT, json=chat("olleh"))
    await http.post(CHAT, json=chat("olleh", model="broken", stream=True))
    await http.post(COMPLETIONS, json={"prompt": "olleh"})
    await http.post(RESPONSES, json={})
    await http.get(RESPONSES)
    await http.get("/v1/models/missing")
    await http.request("BREW", "/pot")
    new = {key: count - before.get(key, 0) for key, count in counts().items() if count != before.get(key, 0)}
    assert new == {
        ("POST", CHAT, 200, None): 1,
        ("POST", CHAT, 200, "context_exceeded"): 1,
        ("POST", COMPLETIONS, 200, None): 1,
        ("POST", RESPONSES, 400, "invalid_prompt"): 1,
        ("GET", RESPONSES, 405, "method_not_allowed"): 1,
        ("GET", "/v1/models/{name:path}", 404, "expert_not_found"): 1,
        ("_OTHER", None, 404, "not_found"): 1,
    }


async def test_a_trace_that_a_request_comes_with_goes_on_to_kafka(http: httpx.AsyncClient, path: Pipeline) -> None:
    trace_id = "0af7651916cd43dd8448eb211c80319c"
    async with path.bus.tail((topics.PROMPTS,)) as records:
        await http.post(CHAT, json=chat("olleh"), headers={"traceparent": f"00-{trace_id}-b7ad6b7169203331-01"})
        record = await anext(records)
    assert trace_id in (record.header("traceparent") or "")


async def asked_by_asgi(app: Starlette, received: Sequence[Message | None]) -> list[Message]:
    """What the app sends to a client that does so. None: nothing comes."""
    coming = iter(received)
    sent: list[Message] = []

    async def receive() -> Message:
        message = next(coming)
        return message if message is not None else await asyncio.get_running_loop().create_future()

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "method": "POST", "path": CHAT, "headers": [], "query_string": b""}, receive, send)
    return sent


async def test_a_client_that_goes_away_as_its_stream_begins_cancels_its_prompt(
    prompts: PromptClient, path: Pipeline
) -> None:
    """Starlette cancels the stream again and again then: what its end needs is done outside."""
    body: Message = {"type": "http.request", "body": json.dumps(chat("hello", model="slow", stream=True)).encode()}
    await asked_by_asgi(http_api(prompts, GatewaySettings(hold_s=0)), (body, None, {"type": "http.disconnect"}))
    assert await asyncio.wait_for(path.cancelled.get(), 10)


async def test_a_client_that_goes_away_within_its_body_is_no_failure_of_ours(prompts: PromptClient) -> None:
    begun: Message = {"type": "http.request", "body": b'{"mess', "more_body": True}
    start, _ = await asked_by_asgi(http_api(prompts, GatewaySettings()), (begun, {"type": "http.disconnect"}))
    assert start["status"] == 499
