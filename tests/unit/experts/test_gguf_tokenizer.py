"""What a GGUF file says of its tokenizer, and what it leaves out."""

import pytest

from coe.experts.gguf_tokenizer import read_tokenizer
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
