"""Lets aiokafka's consumers read records whose header names are not UTF-8.

Any client may write to the topics, and brokers accept any bytes as a header name. aiokafka fails on such a record at
every attempt, which blocks the partition. It has no setting for this, so its record reader is replaced: a batch that
fails to decode is read again by aiokafka's Python implementation, with replacement characters.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy


class _Text(bytearray):
    """A bytearray whose slices decode invalid bytes to replacement characters."""

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return _Text(part) if isinstance(index, slice) else part

    def decode(self, encoding: str = "utf-8", errors: str = "replace") -> str:
        return super().decode(encoding, errors)


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    _buffer: bytearray

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        self._buffer = _Text(self._buffer)


class _Batch:
    """A batch that is read leniently if strict decoding fails."""

    def __init__(self, batch: Any, raw: memoryview) -> None:
        self._batch = batch
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __iter__(self) -> Iterator[Any]:
        try:
            return iter([*self._batch])
        except UnicodeDecodeError:
            return iter([*_LenientBatch(self._raw)])

    def __next__(self) -> Any:
        return next(self._batch)


class _Records(_MemoryRecordsPy):  # type: ignore[misc]
    def next_batch(self) -> Any:
        raw = self._next_slice
        batch = super().next_batch()
        return None if batch is None else _Batch(batch, raw)


def read_any_header() -> None:
    """Enables lenient reading in all consumers of this process."""
    fetcher.MemoryRecords = _Records
