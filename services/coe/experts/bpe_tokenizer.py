"""Byte-level BPE tokenizers (the kind GPT-2 introduced), as in SmolLM2, Llama 3 and Qwen2."""

from collections.abc import Sequence

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from coe.platform.errors import ArtifactError

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
    r"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Regular expressions that split text into words before merging, by GGUF's name for the pre-tokenizer.
_PATTERNS = {"llama-bpe": _WORDS.format(digits=r"\p{N}{1,3}"), "qwen2": _WORDS.format(digits=r"\p{N}")}
UNNAMED = "default"
_GPT2 = "gpt-2"
_SINGLE_DIGITS = "smollm"
PRE_TOKENIZERS = (_GPT2, _SINGLE_DIGITS, *_PATTERNS)


def byte_level_bpe(
    tokens: Sequence[str], merges: Sequence[str], pre: str, control: Sequence[int], own: Sequence[int]
) -> str:
    """Returns tokenizer.json. Tokens with ids in `control` and `own` are matched in the text before anything else."""
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ArtifactError("the vocabulary contains a token twice")
    pairs = [_pair(merge) for merge in merges]
    try:
        model = models.BPE(vocabulary, pairs, fuse_unk=False, ignore_merges=pre == "llama-bpe")
    except Exception as error:  # the library raises plain Exception
        raise ArtifactError(f"the merges don't match the vocabulary: {error}") from error
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = _pre_tokenizer(pre)
    tokenizer.decoder = decoders.ByteLevel()
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    add_tokens(tokenizer, tokens, control, own)
    return tokenizer.to_str()


def _pair(merge: str) -> tuple[str, str]:
    left, _, right = merge.partition(" ")
    if not left or not right or " " in right:
        raise ArtifactError("a merge does not join two tokens")
    return left, right


def add_tokens(tokenizer: Tokenizer, tokens: Sequence[str], control: Sequence[int], own: Sequence[int]) -> None:
    tokenizer.add_special_tokens([AddedToken(tokens[index], special=True, normalized=False) for index in control])
    tokenizer.add_tokens([AddedToken(tokens[index], normalized=False) for index in own])


def _pre_tokenizer(pre: str) -> pre_tokenizers.PreTokenizer:
    if pre in (UNNAMED, _GPT2):
        return pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre == _SINGLE_DIGITS:
        return pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    if pre in _PATTERNS:
        split = pre_tokenizers.Split(Regex(_PATTERNS[pre]), "isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    raise ArtifactError(f"pre-tokenizer {pre!r} is not supported (supported: {', '.join(PRE_TOKENIZERS)})")
