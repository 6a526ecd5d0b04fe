"""The words of a prompt as a short vector: hashed, so that no word list is kept and none can be read back. Pure."""

import re
from collections import Counter
from collections.abc import Sequence
from math import log1p
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

WIDTH = 1024
# A word, a sign, or one character of a script that writes without spaces.
TOKEN = re.compile(r"[぀-ヿ㐀-鿿]|[^\W぀-ヿ㐀-鿿]+|[^\w\s]")
SIGN_BIT = 1 << 31


def hashed_words(texts: Sequence[str]) -> NDArray[np.float32]:
    """Float32 [texts, WIDTH] of length 1 (0 for a text without words): log(1 + count) of each, signed and hashed."""
    vectors = np.zeros((len(texts), WIDTH), np.float32)
    for vector, text in zip(vectors, texts, strict=True):
        for word, count in Counter(TOKEN.findall(text.lower())).items():
            code = crc32(word.encode("utf-8", "surrogatepass"))
            vector[code % WIDTH] += log1p(count) if code & SIGN_BIT else -log1p(count)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: NDArray[np.float32] = vectors / np.maximum(lengths, 1e-9)
    return unit
