"""How many files a process may have open: each connection is one."""

import resource
from contextlib import suppress


def allow_open_files() -> None:
    """As many as it may have: at 1,024, where shells and engines begin, more callers just hang."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
