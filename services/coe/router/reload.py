"""Takes a new artifact into use when its file changes."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from coe.platform import logs
from coe.platform.errors import ArtifactError
from coe.router.classifier import Classifier
from coe.router.rollout import Rollout

_log = logs.get(__name__)

Identity = tuple[Path, int, int]


class Reloader:
    """`locate` says which file is to serve now: it may be another one when the user has trained an artifact.

    A file that can't be used is logged once and the current artifact goes on serving. `seen` is what `identity` said of
    the file before the current artifact was read from it.
    """

    def __init__(
        self,
        rollout: Rollout,
        locate: Callable[[], Path],
        open_path: Callable[[Path], Classifier],
        *,
        seen: Identity | None,
        every_s: float,
    ) -> None:
        self._rollout = rollout
        self._locate = locate
        self._open = open_path
        self._every_s = every_s
        self._seen = seen

    async def run(self) -> None:
        """Looks every `every_s` seconds until cancelled."""
        while True:
            await asyncio.sleep(self._every_s)
            await self.check()

    async def check(self) -> bool:
        """Whether a new artifact was taken into use."""
        path = self._locate()
        found = identity(path)
        if found is None or found == self._seen:
            return False
        self._seen = found
        try:
            classifier = await asyncio.to_thread(self._open, path)
        except (ArtifactError, OSError) as error:
            _log.error("router artifact refused", error=str(error), serving=self._rollout.current.version)
            return False
        before = self._rollout.current.version
        self._rollout.replace(classifier)
        _log.info("router artifact replaced", before=before, version=classifier.version)
        return True


def identity(path: Path) -> Identity | None:
    """What changes with a file's contents. None when there is no file just now."""
    try:
        status = path.stat()
    except OSError:
        return None
    return path, status.st_mtime_ns, status.st_size
