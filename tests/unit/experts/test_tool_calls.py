"""Whatever an expert would rather say: what it calls is one of the caller's functions, with arguments of its schema."""

import json
import random
from typing import Any

import numpy as np
import pytest

from coe._proto import common_pb2, events_pb2
from coe.experts.grammar import Grammar, HeldAnswer
from coe.experts.sampler import Sampler
from coe.experts.sampling_params import SamplingParams
from coe.experts.sequence import FORCED_AT_ONCE, Emission, Sequence
from coe.experts.tokenizer import Detokenizer
from coe.experts.tool_calls import CallReader, Tool, ToolCall, ToolUse
from coe.platform.errors import InvalidPrompt
from unit.experts.test_grammar import EOS, GRAMMARS, TOKENIZER, VOCABULARY, spelled

SCHEMA = {
    "type": "object",
    "properties": {"city": {"enum": ["Rome", "Oslo"]}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = Tool("weather", "How warm it is", json.dumps(SCHEMA))
NOW = Tool("now", "", '{"type": "object", "additionalProperties": false}')
ROME = ToolCall("weather", '{"city": "Rome"}')
CALL = ROME.spelled()


def held(use: ToolUse, schema: str | None = None) -> HeldAnswer:
    return GRAMMARS.begin(use.grammar(schema), VOCABULARY)


def takes(answer: HeldAnswer, text: str) -> bool:
    """Whether this may be the whole answer."""
    for token in TOKENIZER.encode(text).ids:
        if not answer.allowed()[token]:
            return False
        answer.take(token)
    return bool(answer.complete or answer.allowed()[EOS])


def read(text: str, size: int = 3, *, calls_first: bool = False) -> tuple[str, tuple[ToolCall, ...]]:
    reader = CallReader(calls_first=calls_first)
    parts = [reader.push(text[at : at + size]) for at in range(0, len(text), size)]
    return "".join((*parts, reader.flush())), reader.calls()


@pytest.mark.parametrize("seed", range(10))
def test_whatever_is_drawn_is_a_call_where_one_is_required(seed: int) -> None:
    draw, answer, tokens = random.Random(seed), held(ToolUse((WEATHER, NOW), required=True, single=True)), list[int]()
    while not answer.complete:
        tokens.append(draw.choice([token for token in np.flatnonzero(answer.allowed()).tolist() if token != EOS]))
        answer.take(tokens[-1])
    text, (call,) = read(spelled(tokens))
    assert text == ""
    arguments = json.loads(call.arguments)
    assert arguments == {} if call.name == "now" else arguments["city"] in ("Rome", "Oslo")


def test_what_may_be_answered() -> None:
    free, one, required = (
        ToolUse((WEATHER, NOW)),
        ToolUse((WEATHER, NOW), single=True),
        ToolUse((WEATHER, NOW), required=True),
    )
    now = ToolCall("now", "{}").spelled()
    for text, accepted in {
        "It is warm.": [free, one],
        CALL: [free, one, required],
        f"Let me see.\n{CALL}": [free, one],
        f"{CALL}\n{now}": [free, required],
        f"{CALL}\nThere.": [],
        CALL.replace("weather", "whether"): [],
        CALL.replace("Rome", "Bonn"): [],
        CALL.removesuffix("</tool_call>"): [],
    }.items():
        assert [use for use in (free, one, required) if takes(held(use), text)] == accepted, text


def test_beside_a_schema_an_answer_is_json_or_calls() -> None:
    schema = '{"type": "object", "properties": {"warm": {"type": "boolean"}}, "required": ["warm"]}'
    use = ToolUse((WEATHER,))
    assert takes(held(use, schema), '{"warm": true}')
    assert takes(held(use, schema), CALL)
    assert not takes(held(use, schema), "It is warm.")
    with pytest.raises(InvalidPrompt, match="uniqueItems"):
        held(use, '{"type": "array", "uniqueItems": true}')
    for broken in ("{", "[]", "3"):
        with pytest.raises(InvalidPrompt, match="json_schema"):
            use.grammar(broken)


def test_json_that_spells_a_call_has_none() -> None:
    said = '{"note": "<tool_call>\\n", "arguments": {}}'
    for size in (1, 1000):
        assert read(said, size, calls_first=True) == (said, ())
    reader = ToolUse((WEATHER,)).reader("{}")
    assert (reader.push(said) + reader.flush(), reader.calls()) == (said, ())
    reader = CallReader(calls_first=True)
    assert (reader.push("") + reader.push(CALL), reader.calls()) == ("", (ROME,))


def test_what_of_a_schema_no_grammar_can_hold_is_left_to_the_caller() -> None:
    numbers = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    schema = {"properties": {"a": numbers, "b": {"type": "string", "format": "path"}}, "required": ["a", "b"]}
    use = ToolUse((Tool("f", "", json.dumps(schema | {"type": "object"})),))
    assert takes(held(use), ToolCall("f", '{"a": [1, 2], "b": "/tmp"}').spelled())
    assert not takes(held(use), ToolCall("f", '{"a": ["x"], "b": "/tmp"}').spelled())


@pytest.mark.parametrize(
    ("pattern", "held_to"),
    [
        ("^(?!x)[a-z]+$", False),
        ("^(?<=y)a$", False),
        (r"^(.)\1$", False),
        (r"^\(?=?$", True),
        (r"^\\1$", True),
        ("^(?:b|c)$", True),
    ],
)
def test_patterns_that_look_around_hold_no_argument(pattern: str, held_to: bool) -> None:
    schema = {"properties": {"a": {"type": "array", "items": {"type": "string", "pattern": pattern}}}}
    use = ToolUse((Tool("f", "", json.dumps(schema)),))
    assert takes(held(use), ToolCall("f", '{"a": ["any"]}').spelled()) != held_to


@pytest.mark.parametrize(
    ("parameters", "more"),
    [
        ({}, False),
        ({"properties": {}}, False),
        ({"properties": {"a": {"type": "string"}}}, False),
        ({"additionalProperties": {"type": "integer"}}, True),
        ({"minProperties": 1}, True),
        ({"allOf": [{"properties": {"b": {"type": "integer"}}}]}, True),
        ({"properties": {}, "required": ["b"]}, True),
        ({"patternProperties": {"^b": {"type": "integer"}}}, True),
    ],
)
def test_arguments_are_those_that_a_schema_names_unless_it_says_more(parameters: object, more: bool) -> None:
    use = ToolUse((Tool.from_proto(common_pb2.Tool(name="f", parameters=json.dumps(parameters))),))
    assert takes(held(use), ToolCall("f", '{"b": 1}').spelled()) == more


@pytest.mark.parametrize("parameters", [{"properties": 3}, {"required": "a"}, {"required": [[]]}])
def test_what_is_no_schema_is_refused(parameters: object) -> None:
    tool = Tool.from_proto(common_pb2.Tool(name="f", parameters=json.dumps(parameters)))
    with pytest.raises(InvalidPrompt, match="tools can't be followed"):
        held(ToolUse((tool,)))


def test_of_an_answer_that_is_calls_alone_nothing_is_text() -> None:
    reader = ToolUse((WEATHER,), required=True).reader()
    assert reader.push("<tool_c") + reader.flush() == ""
    reader = ToolUse((WEATHER,)).reader()
    assert reader.push("<tool_c") + reader.flush() == "<tool_c"


def test_a_schema_that_can_not_be_followed_is_an_error_of_the_tools() -> None:
    with pytest.raises(InvalidPrompt, match="tools can't be followed") as refused:
        held(ToolUse((Tool("f", "", '{"type": "object", "properties": {"a": {"type": "strin"}}}'),)))
    assert refused.value.details["param"] == "tools"


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_an_answer_is_taken_apart_wherever_tokens_end(size: int) -> None:
    tricky = ToolCall("note", '{"text": "a \\"quoted\\" }\\n</tool_call> and <tool_call>", "n": {"m": [1, {}]}}')
    assert read(f"Let me <tool> see.\n{CALL}\n{tricky.spelled()}", size) == ("Let me <tool> see.\n", (ROME, tricky))
    assert read("No call <tool_cal", size) == ("No call <tool_cal", ())
    assert read(f"{CALL}\n{tricky.spelled()}", size, calls_first=True) == ("", (ROME, tricky))


def test_a_number_may_be_as_long_as_it_likes() -> None:
    long = ToolCall("f", '{"n": %s}' % ("1" * 5000))
    assert read(long.spelled()) == ("", (long,))


@pytest.mark.parametrize("end", range(len("<tool_call>"), len(CALL)))
def test_a_call_that_was_cut_is_none(end: int) -> None:
    assert read(f"{CALL}\n{CALL[:end]}") == ("", (ROME,))
    assert read(CALL[:end]) == ("", ())


def answered(text: str, *, max_tokens: int = 400, stop: tuple[str, ...] = ()) -> list[Emission]:
    """By an expert that says this and then ends."""
    params = SamplingParams(max_tokens=max_tokens, stop=stop)
    grammar: Grammar = ToolUse((WEATHER, NOW)).grammar()
    sampler = Sampler(params, [0], VOCABULARY, GRAMMARS.begin(grammar, VOCABULARY))
    spelling = [TOKENIZER.decode([token]).encode() for token in range(EOS)]
    one = Sequence("r", [0], params, sampler, Detokenizer(spelling), frozenset([EOS]), CallReader())
    emissions: list[Emission] = []
    while not emissions or emissions[-1].finish_reason is None:
        left = text[len(spelled(one.ids[1:])) :]
        token = TOKENIZER.encode(left).ids[0] if left else EOS
        logits = np.zeros(VOCABULARY, np.float32)
        logits[token] = 9.0
        emissions.append(one.accept(logits[None], [token]))
    return emissions


def test_an_answer_streams_its_text_and_ends_with_its_calls() -> None:
    emissions = answered(f"Let me see.\n{CALL}")
    assert "".join(one.text for one in emissions) == emissions[-1].final_text == "Let me see.\n"
    assert emissions[-1].finish_reason == "tool_calls"
    assert emissions[-1].tool_calls == (ROME,)
    assert not any(one.tool_calls for one in emissions[:-1])


def test_what_a_call_has_in_any_case_takes_no_steps() -> None:
    emissions = answered(CALL)
    assert len(emissions) < sum(one.tokens for one in emissions) / 2
    assert max(one.tokens for one in emissions) <= FORCED_AT_ONCE + 1
    assert emissions[-1].completion_tokens == sum(one.tokens for one in emissions)
    assert emissions[-1].tool_calls == (ROME,)


@pytest.mark.parametrize("most", range(1, 40))
def test_no_answer_is_longer_than_it_may_be(most: int) -> None:
    (*_, last) = answered(CALL, max_tokens=most)
    assert last.completion_tokens <= most
    assert last.finish_reason == ("tool_calls" if last.tool_calls else "length")


def test_an_answer_without_calls_ends_as_any() -> None:
    (*_, last) = answered("It is < 30 degrees <tool")
    assert (last.final_text, last.finish_reason, last.tool_calls) == ("It is < 30 degrees <tool", "stop", ())


def test_an_answer_that_was_cut_says_so_and_has_whole_calls_alone() -> None:
    (*_, last) = answered(f"{CALL}\n{CALL}", max_tokens=answered(CALL)[-1].completion_tokens + 12)
    assert (last.final_text, last.finish_reason, last.tool_calls) == ("", "length", (ROME,))


def test_stop_strings_end_text_and_no_call() -> None:
    (*_, last) = answered(f"Let me see.\n{CALL}", stop=("Rome",))
    assert (last.final_text, last.finish_reason) == ("Let me see.\n", "tool_calls")
    (*_, last) = answered(f"Let me see.\n{CALL}", stop=("see",))
    assert (last.final_text, last.finish_reason) == ("Let me ", "stop")


def test_what_a_prompt_says_of_tools() -> None:
    def use(**fields: object) -> ToolUse | None:
        tools = [common_pb2.Tool(name="now"), common_pb2.Tool(name="weather", parameters=json.dumps(SCHEMA))]
        return ToolUse.from_proto(events_pb2.PromptSubmitted(**{"prompt": "Hi", "tools": tools} | fields))  # type: ignore[arg-type]

    assert use(tools=[]) is None
    assert use(tool_choice="none") is None
    assert use(tool_choice="auto") == use() == ToolUse((NOW, Tool("weather", "", json.dumps(SCHEMA))))
    required = use(tool_choice="required", parallel_tool_calls=True)
    assert required is not None
    assert (required.required, required.single) == (True, False)


@pytest.mark.parametrize(
    ("said", "single"),
    [
        ({}, False),
        ({"parallel_tool_calls": False}, True),
        ({"tool_choice": "required"}, True),
        ({"tool_choice": "required", "parallel_tool_calls": True}, False),
    ],
)
def test_an_expert_that_must_call_does_so_once_where_nothing_is_said(said: dict[str, Any], single: bool) -> None:
    use = ToolUse.from_proto(events_pb2.PromptSubmitted(prompt="Hi", tools=[common_pb2.Tool(name="now")], **said))
    assert use is not None
    assert use.single == single
