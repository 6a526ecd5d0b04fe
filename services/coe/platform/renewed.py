"""Objects made from files, and remade when the files change."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from coe.platform.errors import ArtifactError

# Not structlog, which would be a quarter of what a health probe loads.
_log = logging.getLogger(__name__)
Made = TypeVar("Made")
Stamp = tuple[int, int, int]


class Renewed(Generic[Made]):
    """Holds in `made` what `make` last returned. `what` names the files in logs.

    The first call of `make` may raise; later an ArtifactError or OSError is logged and leaves `made` unchanged.
    """

    def __init__(self, what: str, files: Sequence[Path], make: Callable[[], Made]) -> None:
        self._what, self._files, self._make = what, files, make
        # Taken before the files are read, so that a change in the meantime is noticed.
        self._seen = self._stamps()
        self.made = make()

    def renew(self) -> Made | None:
        """Remakes the object if the files have changed. Returns the new one, or None if there is none."""
        if (seen := self._stamps()) == self._seen:
            return None
        self._seen = seen
        try:
            self.made = self._make()
        except (ArtifactError, OSError) as error:
            _log.error("%s not reloaded, the old ones stay in use", self._what, extra={"reason": str(error)})
            return None
        _log.info("%s read again", self._what)
        return self.made

    def _stamps(self) -> list[Stamp | None]:
        return [stamp(path) for path in self._files]


def stamp(path: Path) -> Stamp | None:
    """A value that changes when the file is written or replaced. None while the file does not exist."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
