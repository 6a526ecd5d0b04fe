"""Converts SentencePiece BPE vocabularies, such as Gemma's, to ordinary merges.

SentencePiece joins the neighbours whose union has the best score. Listing every split of a piece into two known pieces
as a merge, best score first, results in the same order.
"""

from collections.abc import Iterator, Sequence, Set

from tokenizers import Tokenizer, decoders, models, normalizers

from coe.experts.bpe_tokenizer import add_tokens
from coe.platform.errors import ArtifactError

SPACE = "\u2581"
# Longer pieces get no merges: splitting is quadratic in the length, which a hostile file could exploit.
MAX_PIECE = 256


def sentencepiece_bpe(
    tokens: Sequence[str],
    scores: Sequence[float],
    unknown: int | None,
    unmerged: Set[int],
    control: Sequence[int],
    own: Sequence[int],
    *,
    prefix_space: bool,
) -> str:
    """Returns tokenizer.json of a SentencePiece BPE model with byte fallback. No merge produces an `unmerged` piece."""
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) != len(tokens):
        raise ArtifactError("the vocabulary contains a token twice")
    merges = _merges(vocabulary, scores, unmerged)
    unk = None if unknown is None else tokens[unknown]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token=unk, fuse_unk=True, byte_fallback=True))
    replace = normalizers.Replace(" ", SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), replace]) if prefix_space else replace
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()])
    add_tokens(tokenizer, tokens, control, own)
    return tokenizer.to_str()


def _merges(vocabulary: dict[str, int], scores: Sequence[float], unmerged: Set[int]) -> list[tuple[str, str]]:
    ranked = [
        (-scores[index], cut)
        for piece, index in vocabulary.items()
        if index not in unmerged and 1 < len(piece) <= MAX_PIECE
        for cut in _cuts(piece, vocabulary)
    ]
    ranked.sort(key=lambda entry: entry[0])
    return [cut for _, cut in ranked]


def _cuts(piece: str, vocabulary: dict[str, int]) -> Iterator[tuple[str, str]]:
    cuts = ((piece[:at], piece[at:]) for at in range(1, len(piece)))
    known = [cut for cut in cuts if cut[0] in vocabulary and cut[1] in vocabulary]
    known.sort(key=lambda cut: (vocabulary[cut[0]], vocabulary[cut[1]]))
    yield from known
