"""The experts this worker can run: the machine's bundles, and `echo` where it is allowed."""

from pathlib import Path

from coe.expert_worker import echo
from coe.experts.bundle import Bundle
from coe.experts.catalogue import Catalogue
from coe.experts.known import KnownBundles
from coe.platform.errors import CoEError, ExpertNotFound


class HostedExperts:
    """Manifests are read once and again when their file changed: each prompt asks."""

    def __init__(self, directory: Path, *, allow_echo: bool) -> None:
        self._catalogue = Catalogue(directory)
        self._known = KnownBundles(self._catalogue)
        self._allow_echo = allow_echo

    def check(self, expert_id: str) -> str:
        """Which bundle it is now (Bundle.identity). Raises ExpertNotFound, or ArtifactError for a damaged bundle."""
        return "" if self._is_echo(expert_id) else self.bundle(expert_id).identity

    def bundle(self, expert_id: str) -> Bundle:
        return self._known.get(expert_id)

    def weight_bytes(self, expert_id: str) -> int:
        """0 for an expert that has none, or is gone."""
        try:
            return 0 if self._is_echo(expert_id) else self.bundle(expert_id).weights_bytes
        except CoEError:
            return 0

    def list(self) -> list[Bundle]:
        return self._catalogue.list()

    def _is_echo(self, expert_id: str) -> bool:
        if expert_id != echo.EXPERT_ID:
            return False
        if not self._allow_echo:
            raise ExpertNotFound("the expert echo is for load tests: set COE_WORKER_ALLOW_ECHO=1", expert_id=expert_id)
        return True
