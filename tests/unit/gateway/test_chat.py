"""Chat completions: requests become prompts, what we can't honour is refused."""

import json
from typing import Any

import pytest
from pydantic import ValidationError

from coe._proto import common_pb2, events_pb2
from coe.gateway.dialects.asked import Head
from coe.gateway.dialects.chat import ChatRequest
from coe.gateway.refusals import invalid
from coe.platform.errors import InvalidPrompt

FUNCTION = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "title": "ä"}}}
HELLO = [{"role": "user", "content": "hello"}]
HEAD = Head("r", "expert", 1, {"coe": "why"})


def whole(**ended: Any) -> dict[str, Any]:
    completion = events_pb2.PromptCompleted.Completion(**ended)
    usage = common_pb2.Usage(prompt_tokens=3, completion_tokens=1, cached_tokens=2)
    result = events_pb2.PromptCompleted(completion=completion, usage=usage)
    return ChatRequest.model_validate({"messages": HELLO}).whole(result, HEAD)


def test_auto_routes_a_name_asks_for_the_expert_and_a_budget_bounds() -> None:
    assert ChatRequest.model_validate({"messages": HELLO}).to_prompt().expert_id == ""
    assert ChatRequest.model_validate({"model": "phi", "messages": HELLO}).to_prompt().expert_id == "phi"
    economy = ChatRequest.model_validate({"model": "coe-economy", "messages": HELLO}).to_prompt()
    assert (economy.expert_id, economy.budget.name) == ("", "economy")


def test_sampling_is_carried_and_what_is_not_given_stays_unset() -> None:
    request = {"messages": HELLO, "max_tokens": 7, "temperature": 0.5, "stop": "END", "seed": 3}
    request |= {"frequency_penalty": -0.5, "presence_penalty": 0, "ignore_eos": True}
    sampling = ChatRequest.model_validate(request).to_prompt().sampling
    assert (sampling.max_tokens, sampling.temperature, sampling.seed) == (7, 0.5, 3)
    assert list(sampling.stop) == ["END"]
    assert not sampling.HasField("top_p")
    assert (sampling.frequency_penalty, sampling.presence_penalty, sampling.ignore_eos) == (-0.5, 0, True)


def test_a_negative_seed_is_one_like_any_other() -> None:
    asked = [ChatRequest.model_validate({"messages": HELLO, "seed": seed}) for seed in (-1, 5)]
    assert [request.to_prompt().sampling.seed for request in asked] == [2**64 - 1, 5]


def test_developer_messages_are_system_messages_and_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    messages = [{"role": "developer", "content": "be brief"}, {"role": "user", "content": parts}]
    prompt = ChatRequest.model_validate({"messages": messages}).to_prompt()
    assert [(message.role, message.content) for message in prompt.messages] == [("system", "be brief"), ("user", "ab")]


@pytest.mark.parametrize(
    "extra",
    [
        {"n": 65, "temperature": 1},
        {"n": 0},
        {"n": 2, "temperature": 1, "stream": True},
        {"tools": [{"type": "custom", "custom": {"name": "f"}}]},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": "{}"}}]},
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "always"},
        {"functions": [{"name": "f"}]},
        {"messages": [{"role": "assistant"}]},
        {"messages": [{"role": "user", "content": None}]},
        {"response_format": {"type": "grammar"}},
        {"response_format": {"type": "json_schema"}},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": "text"}}},
        {"logit_bias": {"1": 1}},
        {"store": True},
        {"seed": 2**64},
        {"seed": -(2**63) - 1},
        {"reasoning_effort": "low"},
        {"verbosity": "low"},
        {"max_tokens": 2**32},
        {"top_k": 2**32},
        {"model": "x" * 300},
        {"user": "x" * 300},
        {"temperature": 3},
        {"max_tokens": 0},
        {"messages": []},
        {"presence_penalty": 2.1},
        {"logprobs": 5},
        {"logprobs": True, "top_logprobs": 21},
        {"top_logprobs": 1},
        {"logprobs": False, "top_logprobs": 1},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]},
    ],
)
def test_what_can_not_be_honoured_is_refused(extra: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ChatRequest.model_validate({"messages": HELLO} | extra)


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "g"}}}, "that name"),
        ({"tool_choice": "required"}, "no tools"),
    ],
)
def test_what_is_not_offered_can_not_be_chosen(extra: dict[str, object], why: str) -> None:
    with pytest.raises(InvalidPrompt, match=why) as caught:
        ChatRequest.model_validate({"messages": HELLO} | extra).to_prompt()
    assert caught.value.details["param"] == "tool_choice"


@pytest.mark.parametrize(
    ("asked", "field"),
    [
        ({}, "response_format"),
        ({"type": "json_schema"}, "response_format.json_schema"),
        ({"type": "json_schema", "json_schema": {"schema": {}}}, "response_format.json_schema.name"),
    ],
)
def test_a_format_is_refused_by_the_name_of_its_field(asked: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate({"messages": HELLO, "response_format": asked})
    assert invalid(caught.value).details["param"] == field


def test_a_json_format_is_a_schema() -> None:
    def asked(response_format: dict[str, object]) -> object:
        request = ChatRequest.model_validate({"messages": HELLO, "response_format": response_format})
        return json.loads(request.to_prompt().sampling.json_schema)

    assert asked({"type": "json_object"}) == {"type": "object"}
    schema = {"type": "object", "properties": {"größe": {"enum": [1, None]}}}
    named = {"name": "size", "description": "of it", "strict": True, "schema": schema}
    assert asked({"type": "json_schema", "json_schema": named}) == schema
    assert asked({"type": "json_schema", "json_schema": {"name": "anything"}}) == {}


@pytest.mark.parametrize(
    "extra",
    [
        {"n": None, "stream": None, "model": None, "stop": None},
        {"tools": [], "tool_choice": "none", "parallel_tool_calls": True, "logit_bias": {}, "top_logprobs": 0},
        {"logprobs": False, "ignore_eos": False},
        {"response_format": {"type": "text"}, "modalities": ["text"], "store": False, "service_tier": "auto"},
        {"metadata": {"a": "b"}, "safety_identifier": "x"},
        {"reasoning_effort": "none", "verbosity": "medium"},
    ],
)
def test_what_asks_for_nothing_changes_nothing(extra: dict[str, object]) -> None:
    plain = ChatRequest.model_validate({"messages": HELLO}).to_prompt()
    assert ChatRequest.model_validate({"messages": HELLO} | extra).to_prompt() == plain


def test_tools_are_offered_and_one_may_be_chosen() -> None:
    other = {"type": "function", "function": {"name": "g", "description": "does g", "strict": True}}

    def asked(**extra: object) -> events_pb2.PromptSubmitted:
        return ChatRequest.model_validate({"messages": HELLO, "tools": [FUNCTION, other]} | extra).to_prompt()

    f, g = asked().tools
    assert (f.name, f.description, json.loads(f.parameters)) == ("f", "", {"type": "object", "title": "ä"})
    assert (g.name, g.description, g.parameters) == ("g", "does g", "")
    assert asked().tool_choice == "auto"
    assert asked(tool_choice="required").tool_choice == "required"
    assert not asked().HasField("parallel_tool_calls")
    for parallel in (False, True):
        assert asked(parallel_tool_calls=parallel).parallel_tool_calls == parallel
    assert len(asked(tool_choice="none").tools) == 2
    chosen = asked(tool_choice={"type": "function", "function": {"name": "g"}}, parallel_tool_calls=True)
    assert ([tool.name for tool in chosen.tools], chosen.tool_choice) == (["g"], "required")
    assert (chosen.HasField("parallel_tool_calls"), chosen.parallel_tool_calls) == (True, False)


def test_an_answer_with_calls_is_sent_back_as_it_came() -> None:
    calls = [common_pb2.ToolCall(id="call_1", name="f", arguments='{"a": 1}')]
    (choice,) = whole(finish_reason="tool_calls", tool_calls=calls)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"] == {
        "role": "assistant",
        "content": None,
        "refusal": None,
        "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}],
    }
    result = {"role": "tool", "tool_call_id": "call_1", "content": "it is 2"}
    prompt = ChatRequest.model_validate({"messages": [*HELLO, choice["message"], result]}).to_prompt()
    _, called, told = prompt.messages
    assert (called.role, called.content, list(called.tool_calls)) == ("assistant", "", calls)
    assert (told.role, told.content, told.tool_call_id) == ("tool", "it is 2", "call_1")
    kept = choice["message"] | {"parsed": None, "tool_calls": [{"index": 0, **choice["message"]["tool_calls"][0]}]}
    kept["tool_calls"][0]["function"]["parsed_arguments"] = {"a": 1}
    assert ChatRequest.model_validate({"messages": [*HELLO, kept, result]}).to_prompt() == prompt
    (choice,) = whole(finish_reason="tool_calls", tool_calls=calls, text="Let me see.")["choices"]
    assert choice["message"]["content"] == "Let me see."


def test_how_likely_tokens_were_is_asked_for_and_told() -> None:
    def asked(**extra: object) -> ChatRequest:
        return ChatRequest.model_validate({"messages": HELLO} | extra)

    assert not asked().to_prompt().sampling.HasField("top_logprobs")
    for top in (0, 20):
        sampling = asked(logprobs=True, top_logprobs=top).to_prompt().sampling
        assert (sampling.HasField("top_logprobs"), sampling.top_logprobs) == (True, top)
    of_half = common_pb2.TokenLogprob(token=b"\xc3", logprob=-0.5)
    of_a = common_pb2.TokenLogprob(token=b"a", logprob=-0.25, likeliest=[of_half])
    completion = events_pb2.PromptCompleted.Completion(text="a", logprobs=[of_a])
    result = events_pb2.PromptCompleted(completion=completion)
    assert asked(logprobs=True).whole(result, HEAD)["choices"][0]["logprobs"] == {
        "content": [
            {
                "token": "a",
                "logprob": -0.25,
                "bytes": [97],
                "top_logprobs": [{"token": "\ufffd", "logprob": -0.5, "bytes": [0xC3]}],
            }
        ],
        "refusal": None,
    }
    assert asked().whole(result, HEAD)["choices"][0]["logprobs"] is None


def test_an_answer_names_the_expert_that_ran() -> None:
    assert whole(text="hi", finish_reason="stop") == {
        "id": "chatcmpl-r",
        "object": "chat.completion",
        "created": 1,
        "model": "expert",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "hi", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 1,
            "total_tokens": 4,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
        "coe": "why",
    }


def test_several_answers_are_prompts_of_their_own_seeds_and_choices_of_one_answer() -> None:
    request = ChatRequest.model_validate({"messages": HELLO, "n": 3, "temperature": 0.5, "seed": -1, "max_tokens": 7})
    prompts = [part.to_prompt() for part in request.apart()]
    assert [prompt.sampling.seed for prompt in prompts] == [2**64 - 1, 0, 1]
    assert {(prompt.messages[0].content, prompt.sampling.max_tokens) for prompt in prompts} == {("hello", 7)}
    answer = request.together([whole(text=text, finish_reason="stop") for text in "xyz"])
    assert [(one["index"], one["message"]["content"]) for one in answer["choices"]] == [(0, "x"), (1, "y"), (2, "z")]
    # The prompt is counted once.
    assert answer["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 3,
        "total_tokens": 6,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    unseeded = ChatRequest.model_validate({"messages": HELLO, "n": 2, "temperature": 0.5}).apart()
    assert not any(part.to_prompt().sampling.HasField("seed") for part in unseeded)


@pytest.mark.parametrize("extra", [{}, {"temperature": 0}])
def test_several_answers_that_would_be_alike_are_refused(extra: dict[str, object]) -> None:
    with pytest.raises(ValidationError) as caught:
        ChatRequest.model_validate({"messages": HELLO, "n": 2} | extra)
    assert invalid(caught.value).message.startswith("n: all answers are the same at temperature 0")
