"""Caches embeddings on disk, so that training again does not encode again."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from coe.encoder.encoder import Encoder
from coe.encoder.folders import cache_dir

# Texts encoded between two calls of `progress`.
STEP = 256
# Steps between two writes of the file.
STEPS_KEPT = 4


class EmbeddingCache:
    """Caches embeddings by encoder fingerprint and text. If several processes write, the last one wins."""

    def __init__(self, encoder: Encoder, folder: Path | None = None) -> None:
        self._encoder = encoder
        self._path = (folder or cache_dir("embeddings")) / f"{encoder.fingerprint}.npz"

    def encode(self, texts: Sequence[str], progress: Callable[[int, int], None] | None = None) -> NDArray[np.float32]:
        """Like `Encoder.encode`, but encodes only texts that are not cached.

        `progress(done, total)` counts only the texts that must be encoded.
        """
        keys, vectors = self._read()
        row_of = {key: row for row, key in enumerate(keys)}
        wanted = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:16] for text in texts]
        missing = {key: text for key, text in zip(wanted, texts, strict=True) if key not in row_of}
        texts_missing = list(missing.items())
        for start in range(0, len(missing), STEP):
            some = texts_missing[start : start + STEP]
            vectors = np.concatenate([vectors, self._encoder.encode([text for _, text in some])])
            for key, _ in some:
                row_of[key] = len(row_of)
            done = start + len(some)
            # Written periodically, so that an interruption does not lose all the work.
            if done == len(missing) or (start // STEP) % STEPS_KEPT == STEPS_KEPT - 1:
                self._write(list(row_of), vectors)
            if progress is not None:
                progress(done, len(missing))
        return vectors[[row_of[key] for key in wanted]]

    def _read(self) -> tuple[list[bytes], NDArray[np.float32]]:
        empty: tuple[list[bytes], NDArray[np.float32]] = ([], np.empty((0, self._encoder.dimensions), np.float32))
        if not self._path.is_file():
            return empty
        try:
            # Opened here, because np.load leaves a file open that turns out not to be an archive.
            with self._path.open("rb") as file, np.load(file) as stored:
                keys = stored["keys"]
                return [key.tobytes() for key in keys], stored["vectors"]
        except (ValueError, KeyError, OSError, EOFError, BadZipFile):
            # An unreadable cache is rebuilt.
            return empty

    def _write(self, keys: Sequence[bytes], vectors: NDArray[np.float32]) -> None:
        partial = self._path.with_suffix(f".{os.getpid()}.npz")
        np.savez(partial, keys=np.frombuffer(b"".join(keys), np.uint8).reshape(len(keys), 16), vectors=vectors)
        partial.replace(self._path)
