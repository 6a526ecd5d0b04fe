"""Caches the bundles of a catalogue. A manifest is read again only when its files change."""

from collections.abc import Iterable

from coe.experts.bundle import MANIFEST, WEIGHTS, Bundle
from coe.experts.catalogue import Catalogue

# Inode, modification time and size of manifest and weights.
_Mark = tuple[int, ...]


class KnownBundles:
    """Every lookup checks the files' metadata, so a new import is visible at once."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._known: dict[str, tuple[_Mark | None, Bundle]] = {}

    def get(self, expert_id: str) -> Bundle:
        """Raises ExpertNotFound, or ArtifactError when the bundle is damaged or outdated."""
        mark = self._mark(expert_id)
        known = self._known.get(expert_id)
        if known is None or known[0] != mark or mark is None:
            self._known.pop(expert_id, None)
            known = self._known[expert_id] = (mark, self._catalogue.get(expert_id))
        return known[1]

    def changed(self, experts: Iterable[str]) -> list[str]:
        """The experts that changed, were removed, or were not looked up since. Safe to call while another thread calls
        `get`."""
        known = [(expert, self._known.get(expert)) for expert in experts]
        return [expert for expert, one in known if one is None or one[0] != self._mark(expert)]

    def _mark(self, expert_id: str) -> _Mark | None:
        folder = self._catalogue.directory / expert_id
        try:
            files = [(folder / name).stat() for name in (MANIFEST, WEIGHTS)]
        except (OSError, ValueError):
            return None
        return tuple(fact for file in files for fact in (file.st_ino, file.st_mtime_ns, file.st_size))
