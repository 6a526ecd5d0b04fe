"""The experts that this worker can run: the bundles on this machine, and `echo` where allowed."""

from functools import partial
from pathlib import Path

from coe.expert_worker import echo
from coe.expert_worker.bounded import Bounded
from coe.experts.bundle import Bundle
from coe.experts.catalogue import Catalogue
from coe.experts.known import KnownBundles
from coe.platform.errors import CoEError, ExpertNotFound, TierLoadError


class HostedExperts:
    """Thread-safe. Every prompt asks for its expert here, so a manifest is reread only when its file has changed.

    While a file system is unresponsive, its experts stay as last seen, so that those in memory can still run.
    """

    def __init__(self, directory: Path, *, allow_echo: bool, calls: Bounded | None = None) -> None:
        self._catalogue = Catalogue(directory)
        self._known = KnownBundles(self._catalogue)
        self._allow_echo = allow_echo
        self._calls = calls or Bounded()
        # Reading thousands of manifests takes a while.
        self._lists = Bounded(patience_s=30.0)
        self._seen: dict[str, Bundle] = {}

    def check(self, expert_id: str) -> str:
        """The identity of the expert's current bundle (Bundle.identity); empty for `echo`. Raises ExpertNotFound,
        TierLoadError, or ArtifactError for a damaged bundle."""
        return "" if self._is_echo(expert_id) else self.bundle(expert_id).identity

    def bundle(self, expert_id: str) -> Bundle:
        """The bundle, as last seen if its file system fails or is unresponsive. Raises TierLoadError if never seen."""
        try:
            return self.look(expert_id)
        except TierLoadError:
            if (seen := self._seen.get(expert_id)) is None:
                raise
            return seen

    def look(self, expert_id: str) -> Bundle:
        """The bundle as it is on disk now. Raises TierLoadError when its file system fails or is unresponsive."""
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
        """The size when last seen. 0 for an expert without weights, or one that is gone."""
        seen = self._seen.get(expert_id)
        try:
            return 0 if self._is_echo(expert_id) else (seen or self.bundle(expert_id)).weights_bytes
        except CoEError:
            return 0

    def list(self) -> list[Bundle]:
        """Slow: don't call it in the event loop's thread. Raises TierLoadError when the file system is unresponsive."""
        return self._lists.call("listing experts", self._catalogue.list)

    def _is_echo(self, expert_id: str) -> bool:
        if expert_id != echo.EXPERT_ID:
            return False
        if not self._allow_echo:
            message = "the expert echo is for load tests only: set COE_WORKER_ALLOW_ECHO=1 to enable it"
            raise ExpertNotFound(message, expert_id=expert_id)
        return True
