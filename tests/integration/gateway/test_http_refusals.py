"""What the HTTP API refuses, and how it says so."""

import gzip
import json

import httpx
import pytest

from coe.client.prompts import PromptClient
from coe.gateway.keys import ApiKeys
from coe.gateway.settings import GatewaySettings
from coe.platform import topics
from support.gateway import CHAT, LIMIT, chat, client_of, http_api
from support.pipeline import EXPERT, Pipeline


async def test_a_body_beyond_every_bound_is_refused_before_it_is_read(http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, content=b" " * (6 * LIMIT + 1))
    assert answer.status_code == 413


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
        ({"n": 2}, "n", "all answers are the same at temperature 0, the default: only 1 is possible"),
        ({"top_logprobs": 1}, "top_logprobs", "requires logprobs: true"),
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
