"""A running copy DDR -> HBM."""

import contextlib
from ctypes import byref, c_void_p

from coe.native._library import LoadInfo, error_of, library


class Load:
    """Handle of one load. Dropping it cancels a copy that still runs."""

    def __init__(self, handle: c_void_p) -> None:
        self._handle = handle

    def _info(self) -> LoadInfo:
        info = LoadInfo()
        library().coe_load_info(self._handle, byref(info))
        return info

    @property
    def generation(self) -> int:
        """The slot's generation for this load: leases are made of it, also before the copy is complete."""
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
        """Waits at most `timeout_s`. True when no thread copies any more: the slot is RESIDENT, or FREE again after an
        error or a cancel."""
        return bool(library().coe_load_wait(self._handle, timeout_s))

    def cancel(self) -> None:
        """Stops after the chunks in flight; `wait` tells when the slot is free."""
        library().coe_load_cancel(self._handle)

    def __del__(self) -> None:
        # At interpreter exit the library may be gone already.
        with contextlib.suppress(Exception):
            library().coe_load_release(self._handle)
