"""The experts this worker can run: the machine's bundles, and `echo` where it is allowed."""

from functools import partial
from pathlib import Path

from coe.expert_worker import echo
from coe.expert_worker.bounded import Bounded
from coe.experts.bundle import Bundle
from coe.experts.catalogue import Catalogue
from coe.experts.known import KnownBundles
from coe.platform.errors import CoEError, ExpertNotFound, TierLoadError


class HostedExperts:
    """Manifests are read once and again when their file changed: each prompt asks. Where a file system does not answer,
    experts are what they were when it last did: those in memory can run. Safe in any thread."""

    def __init__(self, directory: Path, *, allow_echo: bool, calls: Bounded | None = None) -> None:
        self._catalogue = Catalogue(directory)
        self._known = KnownBundles(self._catalogue)
        self._allow_echo = allow_echo
        self._calls = calls or Bounded()
        # Thousands of manifests take long.
        self._lists = Bounded(patience_s=30.0)
        self._seen: dict[str, Bundle] = {}

    def check(self, expert_id: str) -> str:
        """Which bundle it is now (Bundle.identity). Raises ExpertNotFound, ArtifactError for a damaged bundle, or
        TierLoadError."""
        return "" if self._is_echo(expert_id) else self.bundle(expert_id).identity

    def bundle(self, expert_id: str) -> Bundle:
        """Raises TierLoadError when its file system does not answer, or with an error, and it was never seen."""
        try:
            return self.look(expert_id)
        except TierLoadError:
            if (seen := self._seen.get(expert_id)) is None:
                raise
            return seen

    def look(self, expert_id: str) -> Bundle:
        """As it is now: its files can be read. Raises TierLoadError when its file system does not answer."""
        try:
            bundle = self._calls.call(f"looking at {expert_id}", partial(self._known.get, expert_id))
        except ExpertNotFound:
            self._seen.pop(expert_id, None)
            raise
        except OSError as error:
            raise TierLoadError(f"looking at {expert_id}: {error.strerror or error}", expert_id=expert_id) from error
        self._seen[expert_id] = bundle
        return bundle

    def weight_bytes(self, expert_id: str) -> int:
        """When it was seen last. 0 for an expert that has none, or is gone."""
        seen = self._seen.get(expert_id)
        try:
            return 0 if self._is_echo(expert_id) else (seen or self.bundle(expert_id)).weights_bytes
        except CoEError:
            return 0

    def list(self) -> list[Bundle]:
        """Takes its time: not for the loop's thread. Raises TierLoadError when the file system is not responding."""
        return self._lists.call("listing experts", self._catalogue.list)

    def _is_echo(self, expert_id: str) -> bool:
        if expert_id != echo.EXPERT_ID:
            return False
        if not self._allow_echo:
            raise ExpertNotFound("the expert echo is for load tests: set COE_WORKER_ALLOW_ECHO=1", expert_id=expert_id)
        return True
