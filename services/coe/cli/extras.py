"""Commands that need more than what is installed by default."""

from collections.abc import Iterator
from contextlib import contextmanager

from coe.platform.errors import CoEError


@contextmanager
def train_extra(what: str) -> Iterator[None]:
    """Around what imports packages of the extra `train`. Raises CoEError when one is missing: `what` needs them."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise CoEError(f"{what} needs the extra `train` ({error.name} is missing)") from error
