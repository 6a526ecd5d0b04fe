"""A real expert that may call the caller's functions, and is told what they came to."""

import json

import pytest

from coe.experts.bundle import Bundle
from coe.experts.conversation import Conversation, Turn
from coe.experts.sampling_params import SamplingParams
from coe.experts.sequence import Emission
from coe.experts.single import Hosted
from coe.experts.tool_calls import Tool, ToolUse

SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
    "required": ["city", "unit"],
    "additionalProperties": False,
}
WEATHER = Tool("get_weather", "The weather of a city", json.dumps(SCHEMA))
ASKED: list[Turn] = [{"role": "user", "content": "What is the weather in Rome?"}]


def answer(hosted: Hosted, turns: list[Turn], tools: ToolUse, sampling: SamplingParams) -> Emission:
    hosted.runner.add("r", Conversation(turns, tools), sampling)
    while True:
        for emission in hosted.runner.step(hosted.lease):
            if emission.finish_reason is not None:
                return emission


@pytest.mark.parametrize("sampling", [SamplingParams(max_tokens=100), SamplingParams(temperature=1.2, seed=5)])
def test_a_call_and_the_answer_to_its_result(smollm2_bundle: Bundle, sampling: SamplingParams) -> None:
    with Hosted.load(smollm2_bundle, threads=2) as hosted:
        called = answer(hosted, ASKED, ToolUse((WEATHER,), required=True, single=True), sampling)
        assert (called.finish_reason, called.final_text) == ("tool_calls", "")
        (call,) = called.tool_calls
        arguments = json.loads(call.arguments)
        assert call.name == "get_weather"
        assert set(arguments) == {"city", "unit"}
        assert arguments["unit"] in ("C", "F")
        function = {"name": call.name, "arguments": arguments}
        told: list[Turn] = [
            *ASKED,
            {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": function}]},
            {"role": "tool", "content": "31 degrees, sunny", "tool_call_id": "1"},
        ]
        last = answer(hosted, told, ToolUse((WEATHER,)), SamplingParams(max_tokens=40))
        assert last.finish_reason in ("stop", "length", "tool_calls")
        assert "<tool_call>" not in last.final_text
        print(last.final_text)
