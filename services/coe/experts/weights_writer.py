"""Writes weights.coe from its pieces, with a checksum per chunk, and resumes interrupted imports."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from coe.experts.manifest import CHUNK_BYTES
from coe.experts.packer import Bytes, Piece
from coe.native import checksum

Progress = Callable[[int, int], None]
# Pieces per thread in the making or waiting to be written: bounds the memory of an import.
PIECES_A_THREAD = 4


class WeightsWriter:
    """Writes the bytes to `path`, and the checksum of every complete chunk to `journal`, one per line."""

    def __init__(self, path: Path, journal: Path) -> None:
        self._journal = journal
        self._file = path.open("r+b" if path.exists() else "w+b")
        self.checksums = self._resumable()
        self._done = len(self.checksums) * CHUNK_BYTES
        self._file.truncate(self._done)
        self._file.seek(self._done)
        self._chunk = bytearray()
        self._journal.write_text("".join(f"{value}\n" for value in self.checksums))

    def write(self, pieces: Iterable[Piece], total: int, progress: Progress, threads: int) -> tuple[int, ...]:
        """Returns the checksums of all chunks. Pieces before the point of resumption are not computed."""
        resumed = self._done
        wanted = (piece for piece in pieces if piece.offset + piece.nbytes > resumed)
        for piece, data in _made(wanted, threads):
            if data.nbytes != piece.nbytes:
                raise AssertionError(f"a piece at {piece.offset} has {data.nbytes} bytes, planned {piece.nbytes}")
            position = self._done + len(self._chunk)
            self._append(bytes(max(0, piece.offset - position)), data[max(0, position - piece.offset) :])
            progress(piece.offset + piece.nbytes, total)
        self._flush(len(self._chunk))
        self._file.flush()
        os.fsync(self._file.fileno())
        return tuple(self.checksums)

    def close(self) -> None:
        self._file.close()

    def _append(self, gap: bytes, data: Bytes) -> None:
        self._chunk += gap
        self._chunk += data.data
        while len(self._chunk) >= CHUNK_BYTES:
            self._flush(CHUNK_BYTES)

    def _flush(self, size: int) -> None:
        if size == 0:
            return
        chunk = bytes(memoryview(self._chunk)[:size])
        del self._chunk[:size]
        self._file.write(chunk)
        self._file.flush()
        self._done += size
        self.checksums.append(checksum(chunk))
        with self._journal.open("a") as journal:
            journal.write(f"{self.checksums[-1]}\n")

    def _resumable(self) -> list[int]:
        """Checksums of the leading chunks that are complete and match the journal: a crash may have left others."""
        lines = self._journal.read_text().splitlines() if self._journal.exists() else []
        kept: list[int] = []
        for line in lines:
            chunk = self._file.read(CHUNK_BYTES)
            if len(chunk) < CHUNK_BYTES or line != str(checksum(chunk)):
                break
            kept.append(int(line))
        return kept


def _made(pieces: Iterable[Piece], threads: int) -> Iterator[tuple[Piece, Bytes]]:
    """The pieces with their bytes, in order. A few are computed ahead, each by a thread."""
    ahead: deque[tuple[Piece, Future[Bytes]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="coe-pack") as pool:
        try:
            for piece in pieces:
                ahead.append((piece, pool.submit(piece.make)))
                if len(ahead) >= threads * PIECES_A_THREAD:
                    first, made = ahead.popleft()
                    yield first, made.result()
            while ahead:
                first, made = ahead.popleft()
                yield first, made.result()
        finally:
            for _, made in ahead:
                made.cancel()
