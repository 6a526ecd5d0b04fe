"""Commands that need optional dependencies."""

from collections.abc import Iterator
from contextlib import contextmanager

from coe.platform.errors import CoEError


@contextmanager
def train_extra(what: str) -> Iterator[None]:
    """Wrap imports of packages from the extra `train`. Raises CoEError, naming `what`, when one is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise CoEError(f"{what} needs the extra `train` ({error.name} is missing)") from error
