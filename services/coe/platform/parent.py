"""Stops a process whose parent has died (Linux), so that no orphaned services remain. Enabled by COE_PARENT_PID."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Makes the kernel send SIGTERM when the parent dies. Does nothing unless COE_PARENT_PID is set.

    Raises SystemExit if that process is no longer the parent.
    """
    expected = os.environ.get("COE_PARENT_PID")
    if not expected:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # The parent may have died before prctl took effect.
    if os.getppid() != int(expected):
        raise SystemExit("coe: the parent process is gone")
