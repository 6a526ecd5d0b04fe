"""Ends a process whose parent died (Linux), so that nobody's services stay behind. On when COE_PARENT_PID is set."""

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """Has the kernel send SIGTERM when the parent dies. Without COE_PARENT_PID: does nothing.

    Raises SystemExit when the parent named there is gone already.
    """
    expected = os.environ.get("COE_PARENT_PID")
    if not expected:
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # It may have died before the line above.
    if os.getppid() != int(expected):
        raise SystemExit("coe: the parent process is gone")
