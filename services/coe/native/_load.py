"""A running copy from DDR to HBM."""

import contextlib
from ctypes import byref, c_void_p

from coe.native._library import LoadInfo, error_of, library


class Load:
    """Handle of one load. Dropping it cancels a copy that is still running."""

    def __init__(self, handle: c_void_p) -> None:
        self._handle = handle

    def _info(self) -> LoadInfo:
        info = LoadInfo()
        library().coe_load_info(self._handle, byref(info))
        return info

    @property
    def generation(self) -> int:
        """The slot's generation for this load. Leases may be made from it before the copy is complete."""
        return int(self._info().generation)

    @property
    def bytes_copied(self) -> int:
        return int(self._info().bytes_copied)

    @property
    def failure(self) -> Exception | None:
        """Why it failed: ChecksumMismatch, or CapacityExceeded("cancelled"). None while it runs and on success."""
        code = int(self._info().code)
        return error_of(code) if code else None

    @property
    def error(self) -> str | None:
        """The message of `failure`."""
        failure = self.failure
        return str(failure) if failure else None

    def wait(self, timeout_s: float) -> bool:
        """Waits at most `timeout_s`. True when all copying has stopped: the slot is RESIDENT, or FREE again after an
        error or cancellation."""
        return bool(library().coe_load_wait(self._handle, timeout_s))

    def cancel(self) -> None:
        """Stops after the chunks in flight. Use `wait` to learn when the slot is free."""
        library().coe_load_cancel(self._handle)

    def __del__(self) -> None:
        # At interpreter exit the library may already be unloaded.
        with contextlib.suppress(Exception):
            library().coe_load_release(self._handle)
