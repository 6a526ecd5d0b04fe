"""Whatever an expert would rather say, its answer is of the schema."""

import json
import random
from collections.abc import Callable

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from coe.experts import grammar as grammar_module
from coe.experts.grammar import Grammar, Grammars, HeldAnswer
from coe.experts.sampler import Sampler
from coe.experts.sampling_params import MAX_SCHEMA_LENGTH, SamplingParams
from coe.experts.sequence import Sequence
from coe.experts.tokenizer import Detokenizer
from coe.platform.errors import InvalidPrompt

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())
MORE = ["Ġ{", "Ġ}", '"}', '",', 'Ġ"', "true", "fals", '":', "00"]
EOS = len(ALPHABET) + len(MORE)
# A graph may have more rows than the tokenizer has tokens.
VOCABULARY = EOS + 41
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 6},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "kind": {"enum": ["cat", "dog", None]},
        "tags": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["name", "age", "kind", "tags"],
    "additionalProperties": False,
}


def built() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE({token: index for index, token in enumerate([*ALPHABET, *MORE])}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<eos>"])
    return tokenizer


TOKENIZER = built()
GRAMMARS = Grammars(TOKENIZER.to_str(), [EOS])


def spelled(tokens: list[int]) -> str:
    return str(TOKENIZER.decode(tokens))


def answer(schema: object) -> HeldAnswer:
    return GRAMMARS.begin(Grammar.of_schema(json.dumps(schema)), VOCABULARY)


def at_random(schema: object, draw: random.Random, most: int = 400) -> list[int]:
    """Any allowed token each time, but the end only where nothing else is left."""
    begun, tokens = answer(schema), list[int]()
    while not begun.complete and len(tokens) < most:
        allowed = [token for token in np.flatnonzero(begun.allowed()).tolist() if token != EOS]
        tokens.append(draw.choice(allowed))
        begun.take(tokens[-1])
    return tokens


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_drawn_is_of_the_schema(seed: int) -> None:
    person = json.loads(spelled(at_random(PERSON, random.Random(seed))))
    assert list(person) == ["name", "age", "kind", "tags"]
    assert len(person["name"]) <= 6
    assert 0 <= person["age"] <= 150
    assert person["kind"] in ("cat", "dog", None)
    assert len(person["tags"]) <= 3
    assert all(isinstance(tag, bool) for tag in person["tags"])


def test_it_ends_where_it_may_and_not_before() -> None:
    number = answer({"type": "integer"})
    assert not number.allowed()[EOS]
    number.take(ALPHABET.index("7"))
    assert number.allowed()[EOS]
    assert not number.complete
    letter = answer({"enum": ["a"]})
    for char in '"a"':
        assert not letter.complete
        letter.take(ALPHABET.index(char))
    assert letter.complete


def test_rows_beyond_the_tokenizer_are_never_drawn() -> None:
    text = answer({"type": "string"})
    assert text.allowed().shape == (VOCABULARY,)
    assert not text.allowed()[EOS + 1 :].any()


def test_answers_of_one_schema_do_not_share_how_far_they_are() -> None:
    one, other = answer({"type": "integer"}), answer({"type": "integer"})
    one.take(ALPHABET.index("7"))
    assert not other.allowed()[EOS]


def test_what_stays_compiled_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    grammars = Grammars(TOKENIZER.to_str(), [EOS])
    compiled: list[Grammar] = []
    compile_ = grammars._compile
    monkeypatch.setattr(grammars, "_compile", lambda grammar: (compiled.append(grammar), compile_(grammar))[1])
    one, two, three = (Grammar.of_schema(json.dumps({"enum": [name * 60]})) for name in "abc")
    monkeypatch.setattr(grammar_module, "MAX_KNOWN", len(one.text) + len(two.text))
    for asked in (one, two, one, three, one, two):
        grammars.begin(asked, VOCABULARY)
    assert compiled == [one, two, three, two]


def test_one_that_is_larger_than_what_stays_is_followed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grammar_module, "MAX_KNOWN", 10)
    for schema in ({"type": "integer"}, {"enum": ["a" * 60]}):
        assert answer(schema).allowed().any()


class Lost:
    """A matcher that came to its limits."""

    def is_error(self) -> bool:
        return True

    def get_error(self) -> str:
        return "too complex\nand more"

    def compute_bitmask(self) -> bytes:
        return b""

    def compute_ff_tokens(self) -> list[int]:
        return []

    def consume_token(self, token: int) -> None:
        pass


@pytest.mark.parametrize(
    "ask", [HeldAnswer.allowed, HeldAnswer.forced, lambda held: held.take(0)], ids=["allowed", "forced", "take"]
)
def test_what_turns_out_to_be_more_than_can_be_followed_is_an_error(ask: Callable[[HeldAnswer], object]) -> None:
    with pytest.raises(InvalidPrompt, match=r"tools can't be followed: too complex$"):
        ask(HeldAnswer(Lost(), "tools", VOCABULARY))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "schema",
    [
        "{",
        "[]",
        '{"type": "strin"}',
        '{"type": "string", "pattern": "(a"}',
        '{"$ref": "http://127.0.0.1/schema"}',
        '{"not": {"type": "string"}}',
        '{"type": "string", "minLength": 3, "maxLength": 2}',
        '{"items": ' * 5000 + "{}" + "}" * 5000,
    ],
)
def test_what_is_no_schema_is_an_error_of_that_field(schema: str) -> None:
    with pytest.raises(InvalidPrompt, match="json_schema") as refused:
        GRAMMARS.begin(Grammar.of_schema(schema), VOCABULARY)
    assert "\n" not in str(refused.value)
    assert refused.value.details["param"] == "json_schema"


def test_what_is_wrong_with_a_pattern_is_said() -> None:
    with pytest.raises(InvalidPrompt, match=r"regex parse error: look-around.* is not supported"):
        answer({"type": "string", "pattern": "(?=a)b"})


def test_a_schema_has_a_greatest_length() -> None:
    assert SamplingParams(json_schema="x" * MAX_SCHEMA_LENGTH)
    with pytest.raises(InvalidPrompt, match="json_schema must be at most"):
        SamplingParams(json_schema="x" * (MAX_SCHEMA_LENGTH + 1))


def sequence(params: SamplingParams) -> Sequence:
    assert params.json_schema is not None
    sampler = Sampler(params, [0], VOCABULARY, GRAMMARS.begin(Grammar.of_schema(params.json_schema), VOCABULARY))
    spelling = [TOKENIZER.decode([token]).encode() for token in range(EOS)]
    return Sequence("r", [0], params, sampler, Detokenizer(spelling), frozenset([EOS]))


@pytest.mark.parametrize(
    "heat",
    [{}, {"repetition_penalty": 1.3}, {"temperature": 1.0, "seed": 3}, {"temperature": 2.0, "top_p": 0.9, "seed": 4}],
)
def test_a_sequence_ends_with_its_json(heat: dict[str, float]) -> None:
    """Of logits that are for ending at once, and for no letter more than another."""
    logits = np.random.default_rng(0).normal(size=VOCABULARY).astype(np.float32)
    logits[EOS] = 50.0
    schema = {"type": "object", "properties": {"a": {"enum": ["x", "y"]}}, "required": ["a"]}
    params = SamplingParams(max_tokens=200, json_schema=json.dumps(schema | {"additionalProperties": False}), **heat)  # type: ignore[arg-type]
    one = sequence(params)
    assert not one.sampler.takes_likeliest
    emission = one.accept(logits[None], [EOS])
    while emission.finish_reason is None:
        emission = one.accept(logits[None], [EOS])
    assert emission.finish_reason == "stop"
    assert json.loads(emission.final_text) in ({"a": "x"}, {"a": "y"})
    assert EOS not in one.ids


def test_a_schema_that_nothing_fits_is_an_error_of_its_prompt() -> None:
    endless = {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}
    one = sequence(SamplingParams(json_schema=json.dumps(endless)))
    emission = one.accept(np.zeros((1, VOCABULARY), np.float32), [0])
    assert emission.finish_reason == "error"
    assert isinstance(emission.error, InvalidPrompt)
    assert emission.error.details["param"] == "json_schema"
