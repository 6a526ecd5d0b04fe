"""Choices out of bytes: the fuzzer's bytes decide what is called with what."""

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")
EDGES = (0, 1, 2, 63, 64, 65, 4095, 4096, 1 << 16, 1 << 20, (1 << 31) - 1, 1 << 31, 1 << 32, (1 << 63) - 1, 1 << 63)


class Draw:
    """Zeros come when the bytes are used up."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    @property
    def empty(self) -> bool:
        return self._at >= len(self._data)

    def below(self, count: int) -> int:
        return self._take(1) % count

    def of(self, choices: Sequence[T]) -> T:
        return choices[self.below(len(choices))]

    def integer(self, usual: int) -> int:
        """Below `usual` mostly, else an edge of some type, else anything of 64 bits."""
        kind = self.below(8)
        if kind < 4:
            return self._take(4) % usual
        if kind < 6:
            return usual + self.of((-1, 0, 1, 64))
        if kind == 6:
            return self.of((1, -1)) * self.of(EDGES)
        return self._take(8)

    def _take(self, size: int) -> int:
        piece = self._data[self._at : self._at + size]
        self._at += size
        return int.from_bytes(piece, "little")
