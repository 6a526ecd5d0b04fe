"""The embedding cache, over an encoder that counts what it is asked."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from coe.encoder import EmbeddingCache, Encoder


class CountingEncoder:
    dimensions = 2

    def __init__(self, fingerprint: str = "a") -> None:
        self.fingerprint = fingerprint
        self.encoded: list[str] = []

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        self.encoded += texts
        return np.array([[len(text), 1] for text in texts], np.float32)


@pytest.fixture
def encoder() -> CountingEncoder:
    return CountingEncoder()


def cache(encoder: CountingEncoder, folder: Path) -> EmbeddingCache:
    return EmbeddingCache(cast("Encoder", encoder), folder)


def test_encodes_each_text_once(encoder: CountingEncoder, tmp_path: Path) -> None:
    first = cache(encoder, tmp_path).encode(["a", "bb", "a"])
    second = cache(encoder, tmp_path).encode(["ccc", "bb"])
    assert encoder.encoded == ["a", "bb", "ccc"]
    assert first[:, 0].tolist() == [1, 2, 1]
    assert second[:, 0].tolist() == [3, 2]


def test_encoders_do_not_share(encoder: CountingEncoder, tmp_path: Path) -> None:
    cache(encoder, tmp_path).encode(["a"])
    other = CountingEncoder("b")
    cache(other, tmp_path).encode(["a"])
    assert other.encoded == ["a"]


def test_a_broken_file_is_made_anew(encoder: CountingEncoder, tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"not a zip")
    assert cache(encoder, tmp_path).encode(["a"]).tolist() == [[1, 1]]
    cache(encoder, tmp_path).encode(["a"])
    assert encoder.encoded == ["a"]


def test_a_file_that_was_cut_off_is_made_anew(encoder: CountingEncoder, tmp_path: Path) -> None:
    cache(encoder, tmp_path).encode(["a"])
    whole = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(whole[: len(whole) // 2])
    assert cache(encoder, tmp_path).encode(["a"]).tolist() == [[1, 1]]
    assert encoder.encoded == ["a", "a"]


def test_reports_progress(encoder: CountingEncoder, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    cache(encoder, tmp_path).encode([str(n) for n in range(300)], lambda done, total: seen.append((done, total)))
    assert seen == [(256, 300), (300, 300)]
