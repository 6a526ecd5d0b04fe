"""Completions of a text: its requests as prompts, its answers whole and in chunks."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from coe._proto import common_pb2, events_pb2
from coe.gateway.dialects.asked import Head
from coe.gateway.dialects.choices import MAX_CHOICES
from coe.gateway.dialects.completions import CompletionRequest
from coe.platform.errors import Unavailable

HEAD = Head("r", "expert", 1, {})
TEXT = "Once upon"
USAGE = common_pb2.Usage(prompt_tokens=3, completion_tokens=2, cached_tokens=1)


def asked(**fields: object) -> CompletionRequest:
    return CompletionRequest.model_validate({"prompt": TEXT} | fields)


def ended(text: str, *tokens: common_pb2.TokenLogprob) -> events_pb2.PromptCompleted:
    completion = events_pb2.PromptCompleted.Completion(text=text, finish_reason="length", logprobs=tokens)
    return events_pb2.PromptCompleted(completion=completion, usage=USAGE)


def token(spelt: bytes, logprob: float, **likeliest: float) -> common_pb2.TokenLogprob:
    others = [common_pb2.TokenLogprob(token=name.encode(), logprob=value) for name, value in likeliest.items()]
    return common_pb2.TokenLogprob(token=spelt, logprob=logprob, likeliest=others)


def chunks(lines: Iterable[str]) -> list[dict[str, Any]]:
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def test_the_text_goes_on_as_it_is() -> None:
    prompt = asked(temperature=0.5, stop="\n", n=1, best_of=1, suffix="", echo=True, user="u").to_prompt()
    assert (prompt.prompt, prompt.raw, prompt.tenant, len(prompt.messages)) == (TEXT, True, "u", 0)
    assert (prompt.sampling.max_tokens, prompt.sampling.temperature) == (16, 0.5)
    assert not prompt.sampling.HasField("top_logprobs")
    fixed = asked(prompt=[TEXT], max_tokens=5, stop=None, ignore_eos=True).to_prompt().sampling
    assert (fixed.max_tokens, fixed.ignore_eos, len(fixed.stop)) == (5, True, 0)
    for top in (0, 20):
        sampling = asked(logprobs=top).to_prompt().sampling
        assert (sampling.HasField("top_logprobs"), sampling.top_logprobs) == (True, top)


@pytest.mark.parametrize(
    ("extra", "field"),
    [
        ({"prompt": ["a", "b"], "stream": True}, "prompt"),
        ({"prompt": ["a", [1]], "model": "expert"}, "prompt"),
        ({"prompt": ["a"] * (MAX_CHOICES + 1)}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]], "model": "coe-economy"}, "prompt"),
        ({"prompt": [-1], "model": "expert"}, "prompt"),
        ({"prompt": [1 << 32], "model": "expert"}, "prompt"),
        ({"prompt": [True], "model": "expert"}, "prompt"),
        ({"prompt": [[]], "model": "expert"}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a", "b"], "n": MAX_CHOICES // 2 + 1, "temperature": 1}, "prompt"),
        ({"best_of": 2}, "best_of"),
        ({"suffix": "x"}, "suffix"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": 0, "echo": True, "stream": True}, "echo"),
        ({"prompt": [1], "model": "expert", "echo": True}, "echo"),
        ({"max_tokens": 0}, "echo"),
        ({"max_tokens": 0, "logprobs": 0}, "echo"),
        ({"max_tokens": 0, "echo": True}, "echo"),
        ({"max_tokens": -1}, "max_tokens"),
        ({"messages": []}, "messages"),
        ({"tools": []}, "tools"),
    ],
)
def test_what_can_not_be_honoured_is_refused_by_name(extra: dict[str, object], field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        asked(**extra)
    assert caught.value.errors()[0]["loc"] == (field,)


def test_an_answer_may_begin_with_the_prompt() -> None:
    assert asked().whole(ended(" a"), HEAD) == {
        "id": "cmpl-r",
        "object": "text_completion",
        "created": 1,
        "model": "expert",
        "choices": [{"index": 0, "text": " a", "logprobs": None, "finish_reason": "length"}],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 2,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 1},
        },
    }
    assert asked(echo=True).whole(ended(" a"), HEAD)["choices"][0]["text"] == "Once upon a"
    telling = asked(echo=True).telling(HEAD)
    told = chunks([*telling.begun(), *telling.more(" a", ()), *telling.ended(ended(" a"))])
    assert [chunk["choices"][0]["text"] for chunk in told] == ["Once upon", " a", ""]


def test_the_first_chunk_is_the_first_text_and_says_why() -> None:
    telling = asked(stream_options={"include_usage": True, "continuous_usage_stats": True}).telling(
        Head("r", "expert", 1, {"coe": "why"})
    )
    assert not list(telling.begun())
    lines = [*telling.more("a", ()), *telling.more("b", ()), *telling.ended(ended("ab"))]
    first, second, last, usage = chunks(lines)
    assert (first["coe"], first["object"], first["id"]) == ("why", "text_completion", "cmpl-r")
    assert first["choices"] == [{"index": 0, "text": "a", "logprobs": None, "finish_reason": None}]
    assert "coe" not in second
    assert last["choices"][0]["finish_reason"] == "length"
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 5)
    assert first["usage"] is None
    assert usage["usage"]["prompt_tokens_details"] == {"cached_tokens": 1}
    assert lines[-1] == "data: [DONE]\n\n"


def test_how_likely_tokens_were_is_told_in_the_form_of_old() -> None:
    tokens = (token(b"a", -0.5, b=-0.25, a=-0.5), token(b"\xc3", -1), token(b"\xa4", -2, x=-1), token(b"z", -3))
    whole = {
        "tokens": ["a", "bytes:\\xc3", "bytes:\\xa4", "z"],
        "token_logprobs": [-0.5, -1, -2, -3],
        "top_logprobs": [{"b": -0.25, "a": -0.5}, {"bytes:\\xc3": -1}, {"x": -1, "bytes:\\xa4": -2}, {"z": -3}],
        "text_offset": [0, 1, 1, 2],
    }
    request = asked(logprobs=2)
    assert request.whole(ended("aäz", *tokens), HEAD)["choices"][0]["logprobs"] == whole
    telling = request.telling(HEAD)
    lines = [*telling.more("a", tokens[:2]), *telling.more("äz", tokens[2:]), *telling.ended(ended("aäz"))]
    *told, last = [chunk["choices"][0]["logprobs"] for chunk in chunks(lines)]
    assert {name: told[0][name] + told[1][name] for name in whole} == whole
    assert last is None


def scored(text: str, before: Sequence[common_pb2.TokenLogprob], *tokens: common_pb2.TokenLogprob) -> dict[str, Any]:
    """The choice that echoes `text`."""
    result = ended("yz", *tokens)
    result.completion.prompt_logprobs.extend(before)
    request = asked(prompt=text, logprobs=1, echo=True, max_tokens=0)
    sampling = request.to_prompt().sampling
    assert (sampling.prompt_logprobs, sampling.top_logprobs, sampling.max_tokens) == (True, 1, 0)
    (choice,) = request.whole(result, HEAD)["choices"]
    return dict(choice)


def test_an_echo_tells_how_likely_the_prompt_was() -> None:
    before = (token(b"ab", 0), token(b"\xc3", -1, e=-0.5), token(b"\xa4", -2, **{"c": -2}))
    choice = scored("ab\u00e4", before, token(b"y", -3, y=-3), token(b"z", -4))
    assert choice["text"] == "ab\u00e4yz"
    assert choice["logprobs"] == {
        "tokens": ["ab", "bytes:\\xc3", "bytes:\\xa4", "y", "z"],
        "token_logprobs": [None, -1, -2, -3, -4],
        "top_logprobs": [None, {"e": -0.5, "bytes:\\xc3": -1}, {"c": -2, "bytes:\\xa4": -2}, {"y": -3}, {"z": -4}],
        "text_offset": [0, 2, 2, 3, 4],
    }


def test_what_a_tokenizer_puts_before_a_prompt_is_not_of_its_text() -> None:
    choice = scored("ab c", (token(b"<s>", 0), token(b" ab", -1), token(b" c", -1)), token(b"y", -1))
    assert choice["text"] == "ab cyz"
    assert choice["logprobs"]["text_offset"] == [0, 0, 2, 4]


def test_an_echo_of_token_ids_is_what_they_spell() -> None:
    request = asked(prompt=[5, 6], model="expert", echo=True, logprobs=1)
    prompt = request.to_prompt()
    assert (list(prompt.token_ids), prompt.prompt, prompt.raw, prompt.expert_id) == ([5, 6], "", True, "expert")
    result = ended("yz", token(b"y", -1))
    result.completion.prompt_logprobs.extend([token(b"a\xc3", 0), token(b"\xa4", -1)])
    (choice,) = request.whole(result, HEAD)["choices"]
    assert (choice["text"], choice["logprobs"]["text_offset"]) == ("a\u00e4yz", [0, 1, 2])


def test_a_worker_that_tells_nothing_of_the_prompt_is_an_older_one() -> None:
    with pytest.raises(Unavailable, match="older version"):
        asked(echo=True, logprobs=1).whole(ended("a", token(b"a", -1)), HEAD)


def test_several_prompts_are_one_answer() -> None:
    request = asked(prompt=["a", "b"], model="coe-auto", explain=True, max_tokens=3)
    parts = request.apart()
    assert [part.to_prompt().prompt for part in parts] == ["a", "b"]
    assert {part.to_prompt().sampling.max_tokens for part in parts} == {3}
    heads = [Head("r", expert, 1, {"coe": expert}) for expert in ("one", "two")]
    answers = [part.whole(ended(text), head) for part, text, head in zip(parts, ("x", "y"), heads, strict=True)]
    answer = request.together(answers)
    assert (answer["id"], answer["model"], "coe" in answer) == ("cmpl-r", "coe-auto", False)
    told = [(choice["index"], choice["text"], choice["coe"]) for choice in answer["choices"]]
    assert told == [(0, "x", "one"), (1, "y", "two")]
    assert answer["usage"] == {
        "prompt_tokens": 6,
        "completion_tokens": 4,
        "total_tokens": 10,
        "prompt_tokens_details": {"cached_tokens": 2},
    }
    assert request.together(answers[:1] * 2)["model"] == "one"
    ids = asked(prompt=[[1, 2], [3]], model="expert")
    assert [list(part.to_prompt().token_ids) for part in ids.apart()] == [[1, 2], [3]]


def test_several_answers_to_several_prompts_stand_by_prompt() -> None:
    parts = asked(prompt=["a", "b"], n=2, temperature=1, seed=2**64 - 1).apart()
    prompts = [part.to_prompt() for part in parts]
    assert [(prompt.prompt, prompt.sampling.seed) for prompt in prompts] == [
        ("a", 2**64 - 1),
        ("a", 0),
        ("b", 2**64 - 1),
        ("b", 0),
    ]
