"""Opens an artifact and reopens it when its file changes."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from coe.platform import logs
from coe.platform.errors import ArtifactError
from coe.platform.renewed import Stamp, stamp
from coe.router.classifier import Classifier

_log = logs.get(__name__)


class Reloader:
    """Follows the artifact at the path returned by `locate`, which changes when the user first trains one.

    A file that can't be used is logged once, and the artifact opened before stays in use.
    """

    def __init__(self, locate: Callable[[], Path], open_path: Callable[[Path], Classifier]) -> None:
        self._locate = locate
        self._open = open_path
        self._seen: tuple[Path, Stamp | None] | None = None
        self._version = ""

    def open(self) -> Classifier:
        """Opens the artifact. Blocks. Raises ArtifactError."""
        # Stamped before reading, so that a change during the read is noticed by the next check.
        path, _ = self._seen = self._look()
        classifier = self._open(path)
        self._version = classifier.version
        return classifier

    def _look(self) -> tuple[Path, Stamp | None]:
        """The current path and its stamp. Blocks: the file system may be slow."""
        path = self._locate()
        return path, stamp(path)

    async def follow(self, take: Callable[[Classifier], None], every_s: float) -> None:
        """Checks every `every_s` seconds until cancelled and calls `take` with each reopened artifact."""
        while True:
            await asyncio.sleep(every_s)
            await self.check(take)

    async def check(self, take: Callable[[Classifier], None]) -> bool:
        """Reopens the artifact if its file has changed. True: `take` was called with a new artifact."""
        path, found = await asyncio.to_thread(self._look)
        if found is None or (path, found) == self._seen:
            return False
        before = self._version
        try:
            classifier = await asyncio.to_thread(self.open)
        except (ArtifactError, OSError) as error:
            _log.error("router artifact refused", error=str(error), path=str(path), serving=before)
            return False
        take(classifier)
        _log.info("router artifact replaced", path=str(path), before=before, version=classifier.version)
        return True
