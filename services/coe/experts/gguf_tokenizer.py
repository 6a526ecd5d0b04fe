"""Builds a tokenizer for the `tokenizers` library from the vocabulary in GGUF metadata."""

from collections.abc import Iterable, Mapping, Sequence

from coe.experts.bpe_tokenizer import PRE_TOKENIZERS, UNNAMED, byte_level_bpe
from coe.experts.gguf_file import Value
from coe.experts.source import TokenizerSpec
from coe.experts.spm_tokenizer import sentencepiece_bpe
from coe.platform.errors import ArtifactError

# Token types of GGUF.
UNKNOWN, CONTROL, USER_DEFINED, BYTE = 2, 3, 4, 6
# Model families end a turn with one token and a document with another; a file names only one of them.
END_OF_GENERATION = frozenset(
    ("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>", "<eos>", "</s>")
)


def read_tokenizer(metadata: Mapping[str, Value]) -> TokenizerSpec:
    """Raises ArtifactError for a vocabulary that is missing, inconsistent or of an unknown kind."""
    tokens = _strings(metadata, "tokens")
    types = metadata.get("tokenizer.ggml.token_type")
    if not isinstance(types, list) or len(types) != len(tokens):
        raise ArtifactError("the file's token types don't match its tokens")
    control = [index for index, kind in enumerate(types) if kind == CONTROL]
    own = [index for index, kind in enumerate(types) if kind == USER_DEFINED]
    model = metadata.get("tokenizer.ggml.model")
    if model == "gpt2":
        pre = _pre(metadata)
        text = byte_level_bpe(tokens, _strings(metadata, "merges"), pre, control, own)
        # Files that omit the setting rely on llama.cpp's default.
        adds_bos = pre == "llama-bpe"
    elif model == "llama":
        unknown = next((index for index, kind in enumerate(types) if kind == UNKNOWN), None)
        prefix = metadata.get("tokenizer.ggml.add_space_prefix", True) is True
        unmerged = {index for index, kind in enumerate(types) if kind in (UNKNOWN, CONTROL, USER_DEFINED, BYTE)}
        scores = _scores(metadata, len(tokens))
        text = sentencepiece_bpe(tokens, scores, unknown, unmerged, control, own, prefix_space=prefix)
        adds_bos = True
    else:
        raise ArtifactError(f"tokenizer model {model!r} is not supported")
    template = metadata.get("tokenizer.chat_template", "")
    return TokenizerSpec(
        json=text,
        chat_template=template if isinstance(template, str) else "",
        bos_id=_token_id(metadata, "bos_token_id", tokens),
        add_bos=metadata.get("tokenizer.ggml.add_bos_token", adds_bos) is True,
        eos_ids=_end_ids(metadata, tokens, control),
    )


def caution(metadata: Mapping[str, Value]) -> str:
    """A warning about a file that does not name its pre-tokenizer; empty for others."""
    if metadata.get("tokenizer.ggml.model") != "gpt2" or _pre(metadata) != UNNAMED:
        return ""
    return (
        "the file does not name its pre-tokenizer (tokenizer.ggml.pre), so GPT-2's is used, which makes answers of "
        "other families worse. Use a newer file, or add the name with `gguf-new-metadata --pre-tokenizer NAME "
        f"OLD.gguf NEW.gguf` (from the gguf package), where NAME is one of {', '.join(PRE_TOKENIZERS)}"
    )


def _pre(metadata: Mapping[str, Value]) -> str:
    return str(metadata.get("tokenizer.ggml.pre", UNNAMED))


def _end_ids(metadata: Mapping[str, Value], tokens: Sequence[str], control: Sequence[int]) -> tuple[int, ...]:
    eos, *named = (_token_id(metadata, key, tokens) for key in ("eos_token_id", "eot_token_id", "eom_token_id"))
    known = {index for index in control if tokens[index] in END_OF_GENERATION}
    return in_order(known | {index for index in named if index is not None}, eos)


def in_order(ends: Iterable[int], eos: int | None) -> tuple[int, ...]:
    """The end tokens with `eos`, the one that the model declares as such, last."""
    return (*sorted(set(ends) - {eos}), *(() if eos is None else (eos,)))


def _token_id(metadata: Mapping[str, Value], key: str, tokens: Sequence[str]) -> int | None:
    value = metadata.get(f"tokenizer.ggml.{key}")
    return value if isinstance(value, int) and 0 <= value < len(tokens) else None


def _strings(metadata: Mapping[str, Value], key: str) -> list[str]:
    value = metadata.get(f"tokenizer.ggml.{key}")
    if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
        raise ArtifactError(f"the file has no tokenizer.ggml.{key}")
    return [str(item) for item in value]


def _scores(metadata: Mapping[str, Value], count: int) -> list[float]:
    value = metadata.get("tokenizer.ggml.scores")
    if not isinstance(value, list) or len(value) != count:
        raise ArtifactError("the file's token scores don't match its tokens")
    return [float(item) for item in value]
