"""Chat completions over HTTP, as OpenAI's clients ask for them."""

import json

import httpx
import pytest

from coe._proto import events_pb2
from coe.platform import topics
from support.gateway import CHAT, LIMIT, chat
from support.pipeline import EXPERT, Pipeline


async def test_chat_completion_names_the_expert_and_counts_tokens(http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, json=chat("olleh"))
    assert answer.status_code == 200
    body = answer.json()
    assert body["choices"][0] == {
        "index": 0,
        "message": {"role": "assistant", "content": "hello", "refusal": None},
        "logprobs": None,
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
        (chat("hello", temperature=9), 400, "invalid_value"),
        ({"messages": "no list"}, 400, "invalid_value"),
        (chat("hello", seed=2**64), 400, "invalid_value"),
    ],
)
async def test_chat_errors_have_status_and_code(
    http: httpx.AsyncClient, body: dict[str, object], status: int, code: str
) -> None:
    answer = await http.post(CHAT, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)


async def test_an_error_before_the_first_text_of_a_stream_has_its_status(http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, json=chat("hello", model="small", stream=True))
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert answer.headers["content-type"] == "application/json"


async def test_an_error_after_the_first_text_of_a_stream_is_its_last_event(http: httpx.AsyncClient) -> None:
    answer = await http.post(CHAT, json=chat("hello", model="broken", stream=True))
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line]
    assert answer.status_code == 200
    assert events[1]["choices"][0]["delta"]["content"] == "ol"
    assert events[-1]["error"]["code"] == "context_length_exceeded"


async def test_a_conversation_is_named_by_its_cache_key(http: httpx.AsyncClient, path: Pipeline) -> None:
    async with path.bus.tail((topics.PROMPTS,)) as records:
        await http.post(CHAT, json=chat("olleh", prompt_cache_key="talk"))
        assert events_pb2.PromptSubmitted.FromString((await anext(records)).value).conversation_id == "talk"
