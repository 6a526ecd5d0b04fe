"""weights.coe as the DDR tier sees it: mapped, and locked on request."""

from collections.abc import Sequence
from ctypes import byref, c_int, c_uint32, c_void_p
from os import PathLike, fsencode
from typing import Self

from coe.native._library import check, library, make_handle

CHUNK_BYTES = 4 << 20


class WeightsFile:
    """A read-only mapping. Loads that use it keep it alive after `close()`."""

    def __init__(self, handle: c_void_p) -> None:
        self._handle: c_void_p | None = handle

    @classmethod
    def open(
        cls, path: str | PathLike[str], checksums: Sequence[int] | None = None, chunk_bytes: int = CHUNK_BYTES
    ) -> Self:
        """`checksums`: one `checksum()` per chunk of `chunk_bytes`. None: loads can't verify.

        Raises TierLoadError when the file can't be mapped, ChecksumMismatch when its size does not match the number of
        checksums.
        """
        sums = checksums or ()
        array = (c_uint32 * len(sums))(*sums)
        return cls(make_handle("coe_file_open", fsencode(path), array, len(sums), chunk_bytes))

    @property
    def handle(self) -> c_void_p:
        if self._handle is None:
            raise ValueError("the weights file is closed")
        return self._handle

    @property
    def nbytes(self) -> int:
        return int(library().coe_file_nbytes(self.handle))

    def lock(self) -> bool:
        """Reads the file into memory and locks it there. False when RLIMIT_MEMLOCK does not allow that: the pages are
        read, but the kernel may evict them."""
        locked = c_int()
        check(library().coe_file_lock(self.handle, byref(locked)))
        return bool(locked.value)

    def close(self) -> None:
        if self._handle is not None:
            library().coe_file_close(self._handle)
            self._handle = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
