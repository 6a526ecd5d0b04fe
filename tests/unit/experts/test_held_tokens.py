"""Whatever a family's tokenizer is like, answers are held to what its tokens spell."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers

from coe.experts.grammar import Grammar, Grammars
from coe.experts.manifest import TokenizerFacts
from coe.experts.spm_tokenizer import sentencepiece_bpe
from coe.experts.tokenizer import ExpertTokenizer
from coe.experts.tool_calls import Tool, ToolUse
from unit.experts.test_grammar import built

NOW = Tool("now", "", '{"type": "object", "additionalProperties": false}')
CALL = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'


def byte_level(*, special: bool = False, **parts: object) -> ExpertTokenizer:
    tokenizer = built()
    tokenizer.add_tokens([AddedToken(text, special=special) for text in ("<tool_call>", "</tool_call>", "<think>")])
    for name, part in parts.items():
        setattr(tokenizer, name, part)
    return expert(tokenizer.to_str())


def sentence_piece() -> ExpertTokenizer:
    """That puts a space in front of every text, as Llama 2's does."""
    pieces = ["<unk>", "<eos>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127)), "▁<", "\n"]
    text = sentencepiece_bpe(pieces, [0.0] * len(pieces), 0, {0, 1}, [1], [], prefix_space=True)
    return expert(text)


def expert(tokenizer: str) -> ExpertTokenizer:
    end = Tokenizer.from_str(tokenizer).token_to_id("<eos>")
    facts = TokenizerFacts(sha256="", chat_template="", bos_id=None, add_bos=False, eos_ids=(end,))
    return ExpertTokenizer(tokenizer, facts)


def greedy(tokenizer: ExpertTokenizer, grammar: Grammar) -> list[int]:
    """By who takes the last of the tokens that are allowed each time, but never the end."""
    held, tokens = tokenizer.grammars.begin(grammar, len(tokenizer.token_bytes)), list[int]()
    while not held.complete and len(tokens) < 200:
        allowed = [token for token in np.flatnonzero(held.allowed()).tolist() if token not in tokenizer.eos_ids]
        held.take(allowed[-1])
        tokens.append(allowed[-1])
        for token in held.forced():
            held.take(token)
            tokens.append(token)
    return tokens


def text(tokenizer: ExpertTokenizer, tokens: list[int]) -> str:
    return b"".join(tokenizer.token_bytes[token] for token in tokens).decode()


@pytest.mark.parametrize("special", [False, True])
def test_what_calls_are_written_between_may_be_tokens_of_their_own(special: bool) -> None:
    tokenizer = byte_level(special=special)
    tokens = greedy(tokenizer, ToolUse((NOW,), required=True, single=True).grammar())
    assert text(tokenizer, tokens) == CALL
    assert [tokens[0], tokens[-1]] == [*tokenizer.encode("<tool_call>"), *tokenizer.encode("</tool_call>")]
    assert len(tokenizer.encode("<tool_call>")) == 1


def test_tokens_of_text_in_angle_brackets_are_text() -> None:
    tokenizer = byte_level()
    (think,) = tokenizer.encode("<think>")
    held = tokenizer.grammars.begin(ToolUse((NOW,)).grammar(), len(tokenizer.token_bytes))
    assert held.allowed()[think]


@pytest.mark.parametrize(
    "make",
    [
        byte_level,
        sentence_piece,
        lambda: byte_level(pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True)),
        lambda: byte_level(normalizer=normalizers.NFC()),
    ],
)
@pytest.mark.parametrize("said", ["now, and then", "<eos>", "e\u0301"])
def test_what_a_schema_spells_is_said_so(make: Callable[[], ExpertTokenizer], said: str) -> None:
    tokenizer = make()
    schema = {"type": "object", "properties": {"a": {"const": said}}, "required": ["a"], "additionalProperties": False}
    tokens = greedy(tokenizer, Grammar.of_schema(json.dumps(schema)))
    assert json.loads(text(tokenizer, tokens)) == {"a": said}
    tokens = greedy(tokenizer, ToolUse((NOW,), required=True, single=True).grammar())
    assert text(tokenizer, tokens) == CALL


def test_a_tokenizer_may_have_no_end() -> None:
    Grammars(built().to_str(), []).begin(ToolUse((NOW,)).grammar(), 300)
