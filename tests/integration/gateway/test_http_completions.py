"""Completions of a text over HTTP."""

import json

import httpx
import pytest

from coe._proto import events_pb2
from coe.platform import topics
from support.gateway import COMPLETIONS
from support.pipeline import EXPERT, Pipeline


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
    refused = (await http.post(COMPLETIONS, json={"prompt": [1, 2]})).json()["error"]
    assert (refused["param"], refused["code"]) == ("prompt", "invalid_value")
    assert (await http.get(COMPLETIONS)).headers["allow"] == "POST"


async def test_several_prompts_are_answered_in_their_order(http: httpx.AsyncClient, path: Pipeline) -> None:
    body = {"prompt": ["eno", "owt"], "logprobs": 1, "echo": True}
    async with path.bus.tail((topics.PROMPTS,)) as records:
        answer = await http.post(COMPLETIONS, json=body)
        asked = [events_pb2.PromptSubmitted.FromString((await anext(records)).value) for _ in range(2)]
    name = answer.headers["x-request-id"]
    assert sorted((one.request_id, one.prompt) for one in asked) == [(f"{name}.0", "eno"), (f"{name}.1", "owt")]
    assert (answer.headers["x-coe-expert"], answer.json()["id"]) == (EXPERT, f"cmpl-{name}")
    choices = answer.json()["choices"]
    assert [(one["index"], one["text"]) for one in choices] == [(0, "enoone"), (1, "owttwo")]
    assert choices[1]["logprobs"]["tokens"] == ["o", "wt", "tw", "o"]
    assert choices[1]["logprobs"]["token_logprobs"] == [None, 0, 0, 0]
    assert answer.json()["usage"]["total_tokens"] == 10
    ids = [list(b"eno"), list(b"owt")]
    spelt = (await http.post(COMPLETIONS, json=body | {"prompt": ids, "model": EXPERT})).json()
    assert spelt["choices"] == choices


async def test_several_answers_to_one_prompt(http: httpx.AsyncClient) -> None:
    answer = (await http.post(COMPLETIONS, json={"prompt": "eno", "n": 2, "temperature": 1})).json()
    assert [(one["index"], one["text"]) for one in answer["choices"]] == [(0, "one"), (1, "one")]
    one = (await http.post(COMPLETIONS, json={"prompt": "eno"})).json()["usage"]
    assert answer["usage"]["prompt_tokens"] == one["prompt_tokens"]
    assert answer["usage"]["completion_tokens"] == 2 * one["completion_tokens"]


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"prompt": ["a", " "]}, 400, "invalid_value"),
        ({"prompt": ["a", "b"], "model": "missing"}, 404, "expert_not_found"),
        # Of all that the gateway follows.
        ({"prompt": ["a", "b", "c"], "model": "silent"}, 429, "capacity_exceeded"),
    ],
)
async def test_one_prompt_that_fails_ends_the_request(
    http: httpx.AsyncClient, path: Pipeline, body: dict[str, object], status: int, code: str
) -> None:
    answer = await http.post(COMPLETIONS, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.json()["error"]["message"].startswith("prompt ")
    # What was followed for it is not any more.
    assert (await http.post(COMPLETIONS, json={"prompt": ["eno", "owt"]})).status_code == 200
