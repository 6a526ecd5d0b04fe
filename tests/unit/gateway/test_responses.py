"""Responses: items become turns, answers become items, whole and event by event."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from pydantic import ValidationError

from coe._proto import common_pb2, events_pb2
from coe.gateway.dialects.asked import Head
from coe.gateway.dialects.responses import LOGPROBS, ResponseRequest
from coe.gateway.refusals import invalid
from coe.platform.errors import CapacityExceeded, InternalError, InvalidPrompt, PromptTooLarge

HEAD = Head("r", "expert", 1, {"coe": "why"})
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object", "title": "ä"}, "strict": True}
CALLS = [common_pb2.ToolCall(id="call_1", name="f", arguments="{}"), common_pb2.ToolCall(id="call_2", name="g")]
OF_A = common_pb2.TokenLogprob(token=b"a", logprob=-0.5)
USAGE = common_pb2.Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=1)
TOLD_OF_A = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}


def asked(**fields: object) -> ResponseRequest:
    return ResponseRequest.model_validate({"input": "hello"} | fields)


def turns(**fields: object) -> list[tuple[str, str]]:
    return [(turn.role, turn.content) for turn in asked(**fields).to_prompt().messages]


def ended(text: str = "", finish_reason: str = "stop", **fields: Any) -> events_pb2.PromptCompleted:
    completion = events_pb2.PromptCompleted.Completion(text=text, finish_reason=finish_reason, **fields)
    return events_pb2.PromptCompleted(completion=completion, usage=USAGE)


def events(lines: Iterable[str]) -> list[dict[str, Any]]:
    """What they say; each has its name and its number."""
    said = []
    for number, line in enumerate(lines):
        name, data = line.split("\n", 1)
        event = json.loads(data.removeprefix("data: "))
        assert (name, event.pop("sequence_number")) == (f"event: {event['type']}", number)
        said.append(event)
    return said


def kinds(lines: Iterable[str]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events(lines)]


def test_a_text_is_the_users_and_instructions_stand_before() -> None:
    assert turns() == [("user", "hello")]
    assert turns(instructions="be brief") == [("system", "be brief"), ("user", "hello")]
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    items = [{"role": "developer", "content": "be kind"}, {"type": "message", "role": "user", "content": parts}]
    assert turns(instructions="be brief", input=items) == [
        ("system", "be brief"),
        ("system", "be kind"),
        ("user", "ab"),
    ]


def test_settings_are_carried() -> None:
    prompt = asked(
        max_output_tokens=7, temperature=0.5, model="coe-economy", user="u", prompt_cache_key="k"
    ).to_prompt()
    assert (prompt.sampling.max_tokens, prompt.sampling.temperature) == (7, 0.5)
    assert (prompt.budget.name, prompt.tenant, prompt.conversation_id) == ("economy", "u", "k")
    assert not prompt.sampling.HasField("top_logprobs")
    for fields, top in (({"include": [LOGPROBS]}, 0), ({"top_logprobs": 2}, 2)):
        sampling = asked(**fields).to_prompt().sampling
        assert (sampling.HasField("top_logprobs"), sampling.top_logprobs) == (True, top)
    schema = {"type": "object", "properties": {"größe": {"enum": [1, None]}}}
    named = {"type": "json_schema", "name": "size", "strict": True, "schema": schema}
    assert json.loads(asked(text={"format": named}).to_prompt().sampling.json_schema) == schema


def test_tools_are_offered_and_one_may_be_chosen() -> None:
    tools = [FUNCTION, {"type": "function", "name": "g", "description": "does g"}]
    f, g = asked(tools=tools).to_prompt().tools
    assert (f.name, json.loads(f.parameters)) == ("f", {"type": "object", "title": "ä"})
    assert (g.name, g.description, g.parameters) == ("g", "does g", "")
    chosen = asked(tools=tools, tool_choice={"type": "function", "name": "g"}).to_prompt()
    assert ([tool.name for tool in chosen.tools], chosen.tool_choice) == (["g"], "required")
    assert not chosen.parallel_tool_calls
    with pytest.raises(InvalidPrompt):
        asked(tools=tools, tool_choice={"type": "function", "name": "h"}).to_prompt()


def test_an_answer_is_sent_back_as_it_came() -> None:
    answer = asked(include=[LOGPROBS]).whole(ended("a", "tool_calls", tool_calls=CALLS, logprobs=[OF_A]), HEAD)
    said, *called = answer["output"]
    assert said == {
        "id": "msg_r",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": "a", "annotations": [], "logprobs": [TOLD_OF_A]}],
    }
    assert called[0] == {
        "id": "fc_r_0",
        "type": "function_call",
        "call_id": "call_1",
        "name": "f",
        "arguments": "{}",
        "status": "completed",
    }
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}
    results = [
        {"type": "function_call_output", "call_id": "call_1", "output": "it is 2"},
        {"type": "function_call_output", "call_id": "call_2", "output": [{"type": "input_text", "text": "3"}]},
    ]
    kept = called[1] | {"parsed_arguments": {}, "id": None}
    items = [{"role": "user", "content": "hello"}, reasoning, said, called[0], reasoning, kept, *results]
    _, assistant, first, second = asked(input=items).to_prompt().messages
    assert (assistant.role, assistant.content, list(assistant.tool_calls)) == ("assistant", "a", CALLS)
    assert (first.role, first.content, first.tool_call_id) == ("tool", "it is 2", "call_1")
    assert (second.content, second.tool_call_id) == ("3", "call_2")
    # One call after the other's result are two turns.
    apart = [*items[:1], called[0], results[0], called[1], results[1]]
    assert [role for role, _ in turns(input=apart)] == ["user", "assistant", "tool", "assistant", "tool"]


def test_an_answer_says_again_what_was_asked() -> None:
    request = asked(instructions="be brief", metadata={"a": "b"}, tools=[FUNCTION], user="u", top_p=0.5)
    assert request.whole(ended("hi"), HEAD) == {
        "id": "resp_r",
        "object": "response",
        "created_at": 1,
        "model": "expert",
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "output": [
            {
                "id": "msg_r",
                "type": "message",
                "role": "assistant",
                "status": "completed",
                "content": [{"type": "output_text", "text": "hi", "annotations": [], "logprobs": []}],
            }
        ],
        "usage": {
            "input_tokens": 3,
            "input_tokens_details": {"cached_tokens": 1, "cache_write_tokens": 0},
            "output_tokens": 2,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 5,
        },
        "background": False,
        "instructions": "be brief",
        "max_output_tokens": None,
        "metadata": {"a": "b"},
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default",
        "store": False,
        "temperature": 0.0,
        "text": {"format": {"type": "text"}, "verbosity": None},
        "tool_choice": "auto",
        "tools": [FUNCTION | {"description": ""}],
        "top_logprobs": 0,
        "top_p": 0.5,
        "truncation": "disabled",
        "user": "u",
        "coe": "why",
    }
    named = {"type": "json_schema", "name": "size", "description": None, "strict": True, "schema": {"title": "a"}}
    choice = {"type": "function", "name": "f"}
    answer = asked(text={"format": named}, tools=[FUNCTION], tool_choice=choice).whole(ended("hi"), HEAD)
    assert (answer["text"]["format"], answer["tool_choice"]) == (named, choice)
    assert not answer["parallel_tool_calls"]
    for fields, several in (({}, False), ({"parallel_tool_calls": True}, True)):
        answer = asked(tools=[FUNCTION], tool_choice="required", **fields).whole(ended(""), HEAD)
        assert answer["parallel_tool_calls"] == several


def test_an_answer_that_was_cut_is_incomplete() -> None:
    answer = asked().whole(ended("hi", "length"), HEAD)
    assert (answer["status"], answer["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    assert answer["output"][0]["status"] == "incomplete"
    telling = asked().telling(HEAD)
    assert kinds([*telling.begun(), *telling.ended(ended("hi", "length"))])[-1] == "incomplete"


def test_the_events_of_a_text_make_the_whole_answer() -> None:
    request, end = asked(include=[LOGPROBS]), ended("aa", logprobs=[OF_A, OF_A, OF_A])
    telling = request.telling(HEAD)
    lines = [*telling.begun(), *telling.more("", [OF_A]), *telling.more("a", []), *telling.more("a", [OF_A])]
    # Of a stop string, say.
    lines += telling.more("", [OF_A])
    created, begun, added, part, *deltas, done, part_done, item_done, completed = events([*lines, *telling.ended(end)])
    whole = request.whole(end, HEAD)
    assert (created["type"], begun["type"]) == ("response.created", "response.in_progress")
    assert created["response"] == begun["response"]
    assert created["response"] == whole | {"status": "in_progress", "output": [], "usage": None}
    (item,) = whole["output"]
    assert added["item"] == item | {"status": "in_progress", "content": []}
    assert part["part"] == {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
    at = {"item_id": "msg_r", "output_index": 0, "content_index": 0}
    delta = {"type": "response.output_text.delta", **at, "delta": "a", "logprobs": [TOLD_OF_A]}
    assert deltas == [delta, delta, delta | {"delta": ""}]
    told = [TOLD_OF_A, TOLD_OF_A, TOLD_OF_A]
    assert done == {"type": "response.output_text.done", **at, "text": "aa", "logprobs": told}
    assert part_done == {"type": "response.content_part.done", **at, "part": item["content"][0]}
    assert item_done == {"type": "response.output_item.done", "output_index": 0, "item": item}
    assert completed == {"type": "response.completed", "response": whole}


def test_the_events_of_calls_come_behind_the_text_if_there_is_one() -> None:
    of_a_call = [
        "output_item.added",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "output_item.done",
    ]
    telling = asked().telling(HEAD)
    # What is told of the tokens of a call is no text.
    lines = [*telling.begun(), *telling.more("", [OF_A]), *telling.ended(ended("", "tool_calls", tool_calls=CALLS))]
    assert kinds(lines) == ["created", "in_progress", *of_a_call, *of_a_call, "completed"]
    said = events(lines)
    begun, delta, done, item_done = said[6:10]
    assert begun["item"] | {"status": "completed"} == item_done["item"] == said[-1]["response"]["output"][1]
    assert (delta["item_id"], delta["output_index"], done["arguments"]) == ("fc_r_1", 1, "")
    telling = asked().telling(HEAD)
    lines = [*telling.begun(), *telling.more("a", []), *telling.ended(ended("a", "tool_calls", tool_calls=CALLS[:1]))]
    assert events(lines)[-2]["output_index"] == 1


def test_an_answer_without_text_and_calls_is_a_message() -> None:
    assert asked().whole(ended(), HEAD)["output"][0]["content"][0]["text"] == ""
    telling = asked().telling(HEAD)
    assert kinds(telling.ended(ended())) == [
        "output_item.added",
        "content_part.added",
        "output_text.done",
        "content_part.done",
        "output_item.done",
        "completed",
    ]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PromptTooLarge("long"), "invalid_prompt"),
        (CapacityExceeded("full"), "rate_limit_exceeded"),
        (InternalError("broken"), "server_error"),
    ],
)
def test_a_failure_is_told_by_our_code_and_by_theirs(
    error: PromptTooLarge | CapacityExceeded | InternalError, code: str
) -> None:
    telling = asked().telling(HEAD)
    said, failed = events(telling.failed(error))
    assert (said["type"], said["code"], said["message"]) == ("error", error.code, error.message)
    response = failed["response"]
    assert (failed["type"], response["status"]) == ("response.failed", "failed")
    assert response["error"] == {"code": code, "message": error.message}


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"store": True}, "store"),
        ({"previous_response_id": "x"}, "previous_response_id"),
        ({"conversation": "x"}, "conversation"),
        ({"background": True}, "background"),
        ({"prompt": {"id": "x"}}, "prompt"),
        ({"messages": []}, "messages"),
        ({"truncation": "auto"}, "truncation"),
        ({"reasoning": {"effort": "high"}}, "reasoning.effort"),
        ({"include": ["file_search_call.results"]}, "include.0"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice"),
        ({"top_logprobs": 21}, "top_logprobs"),
        ({"text": {"verbosity": "high"}}, "text.verbosity"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema"}}}, "text.format.name"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": ["x"]}, "input.0"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input.0"),
        ({"input": [{"type": "function_call", "name": "f"}]}, "input.0.call_id"),
        ({"input": [{"role": "tool", "content": "x"}]}, "input.0.role"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input.0.content.0.type"),
    ],
)
def test_what_can_not_be_honoured_is_refused_by_name(extra: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        asked(**extra)
    assert invalid(caught.value).details["param"] == field


@pytest.mark.parametrize(
    "extra",
    [
        {"store": False, "background": False, "truncation": "disabled", "service_tier": "auto"},
        {"previous_response_id": None, "conversation": None, "prompt": None, "reasoning": None},
        {"include": ["reasoning.encrypted_content"], "reasoning": {"effort": None, "summary": "auto"}},
        {"text": {"format": {"type": "text"}, "verbosity": "medium"}, "tools": [], "tool_choice": "auto"},
        {"stream_options": {"include_obfuscation": False}, "metadata": {"a": "b"}, "safety_identifier": "x"},
    ],
)
def test_what_asks_for_nothing_changes_nothing(extra: dict[str, object]) -> None:
    assert asked(**extra).to_prompt() == asked().to_prompt()
