"""A real expert whose answers must be JSON, beside one whose answer may be any text."""

import json

import pytest

from coe.experts.bundle import Bundle
from coe.experts.conversation import Conversation
from coe.experts.sampling_params import SamplingParams
from coe.experts.sequence import Emission
from coe.experts.single import Hosted
from coe.platform.errors import InvalidPrompt

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 30},
        "country": {"enum": ["France", "Italy", "Spain"]},
        "population": {"type": "integer"},
        "rivers": {"type": "array", "items": {"type": "string", "maxLength": 30}, "maxItems": 2},
    },
    "required": ["city", "country", "population", "rivers"],
    "additionalProperties": False,
}
ASKED = "Describe Paris as JSON."
TELL = "Tell me something about bridges."


def answers(hosted: Hosted, asked: dict[str, tuple[str, SamplingParams]]) -> dict[str, Emission]:
    for request_id, (prompt, sampling) in asked.items():
        hosted.runner.add(request_id, Conversation.of(prompt), sampling)
    last: dict[str, Emission] = {}
    while hosted.runner.live:
        last |= {one.request_id: one for one in hosted.runner.step(hosted.lease) if one.finish_reason}
    return last


def test_answers_of_a_schema_beside_plain_ones(smollm2_bundle: Bundle) -> None:
    schema = json.dumps(SCHEMA)
    plain = SamplingParams(max_tokens=24)
    with Hosted.load(smollm2_bundle, threads=2) as hosted:
        hosted.wait_loaded()
        alone = answers(hosted, {"plain": (TELL, plain)})["plain"]
        together = answers(
            hosted,
            {
                "plain": (TELL, plain),
                "greedy": (ASKED, SamplingParams(max_tokens=300, json_schema=schema)),
                "drawn": (ASKED, SamplingParams(max_tokens=300, json_schema=schema, temperature=1.5, seed=1)),
                "cut": (ASKED, SamplingParams(max_tokens=4, json_schema=schema)),
            },
        )
        with pytest.raises(InvalidPrompt, match="json_schema"):
            hosted.runner.add("none", Conversation.of(ASKED), SamplingParams(json_schema='{"type": "strin"}'))
        assert hosted.runner.live == 0
    assert together["plain"].final_text == alone.final_text
    for name in ("greedy", "drawn"):
        assert together[name].finish_reason == "stop"
        city = json.loads(together[name].final_text)
        assert list(city) == list(SCHEMA["properties"])  # type: ignore[call-overload]
        assert city["country"] in ("France", "Italy", "Spain")
        assert isinstance(city["population"], int)
        assert len(city["rivers"]) <= 2
    assert together["cut"].finish_reason == "length"
