"""What a GGUF file says of its tokenizer, and what it leaves out."""

import pytest

from coe.experts.conversation import Conversation
from coe.experts.gguf_tokenizer import read_tokenizer
from coe.experts.manifest import TokenizerFacts
from coe.experts.tokenizer import ExpertTokenizer
from support.gguf_files import MERGES, TOKENS

CONTROL, NORMAL = 3, 1


@pytest.mark.parametrize(
    ("pre", "said", "added"), [("llama-bpe", None, True), ("llama-bpe", False, False), ("smollm", None, False)]
)
def test_llama_3_begins_with_its_first_token_unless_the_file_says_otherwise(
    pre: str, said: bool | None, added: bool
) -> None:
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": TOKENS,
        "tokenizer.ggml.token_type": [CONTROL if token.startswith("<|") else NORMAL for token in TOKENS],
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.bos_token_id": TOKENS.index("<|im_start|>"),
    }
    if said is not None:
        metadata["tokenizer.ggml.add_bos_token"] = said
    assert read_tokenizer(metadata).add_bos is added  # type: ignore[arg-type]


def test_what_templates_call_eos_is_what_the_file_calls_so() -> None:
    """Others that end an answer too may have higher ids, as in Llama 3's vocabulary."""
    tokens = [*TOKENS, "<|end_of_text|>", "<|eot_id|>"]
    ends = [tokens.index(token) for token in ("<|im_end|>", "<|eot_id|>", "<|end_of_text|>")]
    metadata = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL if token.startswith("<|") else NORMAL for token in tokens],
        "tokenizer.ggml.merges": MERGES,
        "tokenizer.ggml.eos_token_id": ends[-1],
    }
    spec = read_tokenizer(metadata)  # type: ignore[arg-type]
    assert set(spec.eos_ids) == set(ends)
    facts = TokenizerFacts(chat_template="{{ eos_token }}", bos_id=None, add_bos=False, eos_ids=spec.eos_ids, sha256="")
    assert ExpertTokenizer(spec.json, facts).encode_prompt(Conversation.of("Hi")) == ends[-1:]
