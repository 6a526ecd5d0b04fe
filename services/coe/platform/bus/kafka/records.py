"""Lets aiokafka's consumers read records whose header names are no UTF-8.

Anybody may write to our topics, and a broker takes any bytes as a name. aiokafka refuses such a record at each attempt,
and with it all that comes after it in the partition. It has no setting for that, so its reader of fetched bytes is
replaced: a batch that it can't read is read again by its implementation in Python, with replacement characters.
"""

from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy


class _Text(bytearray):
    """Whose parts are decoded whatever they are."""

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
    """A batch, read leniently where it can't be read strictly."""

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
    """From now on, in all consumers of this process."""
    fetcher.MemoryRecords = _Records
