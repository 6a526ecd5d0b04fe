"""Keeps a native library's chatter off standard output, which belongs to results."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# A second thread would keep the first one's nowhere, and put that back.
_ONE_AT_A_TIME = threading.Lock()


@contextmanager
def native_stdout_silenced() -> Iterator[None]:
    """Descriptor 1 leads nowhere within the block: HiGHS prints a debugging line there whatever its options say."""
    with _ONE_AT_A_TIME:
        sys.stdout.flush()
        kept = os.dup(1)
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, 1)
            yield
        finally:
            os.dup2(kept, 1)
            os.close(nowhere)
            os.close(kept)
