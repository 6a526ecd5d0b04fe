"""What is made from files, and made anew when they change."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Generic, TypeVar

from coe.platform.errors import ArtifactError

# Without structlog, a fourth of what a health probe would load.
_log = logging.getLogger(__name__)
Made = TypeVar("Made")
Stamp = tuple[int, int, int]


class Renewed(Generic[Made]):
    """`made` is what `make` gave last. `what` the files are, in words of the log.

    Raises what `make` raises when it is called first; later an ArtifactError leaves what was made.
    """

    def __init__(self, what: str, files: Sequence[Path], make: Callable[[], Made]) -> None:
        self._what, self._files, self._make = what, files, make
        # Before they are read: what changes meanwhile is read again.
        self._seen = self._stamps()
        self.made = make()

    def renew(self) -> Made | None:
        """What was made anew because the files have changed since the last look."""
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
    """Another one when the file was written or replaced. None when there is none just now."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
