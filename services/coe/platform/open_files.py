"""Raises the limit on open files; every connection counts as one."""

import resource
from contextlib import suppress


def allow_open_files() -> None:
    """Raises the soft limit to the hard limit.

    The usual default of shells and container engines is 1,024; callers beyond that would just hang.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
