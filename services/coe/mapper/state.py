"""What the mapper decides by, read from files and read again when they change."""

from dataclasses import dataclass, replace
from pathlib import Path

from coe.encoder import Encoder, open_encoder
from coe.experts.catalogue import Catalogue
from coe.mapper.bindings import FILE_NAME, read_bindings
from coe.mapper.mapping import Mapping
from coe.mapper.mapping_file import load_mapping, locate
from coe.mapper.parts import PART_ENCODER, PartFinder
from coe.mapper.policy import Hosted
from coe.mapper.refiner_file import FILE_NAME as REFINER
from coe.mapper.refiner_file import load_refiner
from coe.mapper.settings import MapperSettings
from coe.platform import logs
from coe.platform.errors import ArtifactError, CoEError

_log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class State:
    """One consistent picture; a batch is decided by one."""

    mapping: Mapping
    candidate: Mapping | None
    hosted: Hosted
    parts: PartFinder | None = None


class StateFiles:
    """Owns the current state. `load` at the start, `refresh` now and then (both block for a moment)."""

    def __init__(self, home: Path, settings: MapperSettings) -> None:
        self._home = home
        self._settings = settings
        self._state: State | None = None
        self._seen: tuple[object, ...] = ()
        self._encoder: Encoder | None = None

    @property
    def current(self) -> State:
        assert self._state is not None, "load first"
        return self._state

    def load(self) -> None:
        """Raises ArtifactError when a file is missing or corrupt."""
        self._seen = self._stamps()
        self._state = self._read()

    def refresh(self) -> bool:
        """Reads again what changed; keeps the old state, and says so, when that fails. True: there is a new state."""
        stamps = self._stamps()
        if stamps == self._seen:
            return False
        self._seen = stamps
        try:
            self._state = self._read()
        except CoEError as error:
            _log.error("mapping not reloaded, the old one stays", reason=error.message, **error.details)
            return False
        _log.info("mapping reloaded", version=self._state.mapping.version, experts=len(self._state.hosted.ids))
        return True

    def _read(self) -> State:
        settings = self._settings
        candidate = load_mapping(settings.candidate) if settings.candidate is not None else None
        ids = settings.experts or frozenset(bundle.id for bundle in Catalogue(self._home / "experts").list())
        mapping = load_mapping(self._mapping_path())
        hosted = Hosted(ids, read_bindings(self._home / FILE_NAME))
        return State(mapping, candidate, hosted, self._parts(mapping))

    def _parts(self, mapping: Mapping) -> PartFinder | None:
        """The finder of the mapping's parts; the encoder stays open from one mapping to the next."""
        if not mapping.refiner or not self._settings.parts:
            return None
        if self._state is not None and self._state.mapping.refiner == mapping.refiner:
            return self._state.parts
        refiner, kind = load_refiner(self._mapping_path().with_name(REFINER), mapping.refiner)
        try:
            self._encoder = self._encoder or open_encoder(replace(PART_ENCODER, threads=self._settings.threads))
        except ArtifactError as error:
            # Each category has a row of its own, solved under the same budgets: less sharp, but right.
            _log.warning("no encoder: prompts are mapped by category alone", reason=error.message)
            return None
        return PartFinder(refiner, kind, self._encoder)

    def _mapping_path(self) -> Path:
        return self._settings.mapping or locate(self._home)

    def _stamps(self) -> tuple[object, ...]:
        paths = [self._mapping_path(), self._home / FILE_NAME, self._home / "experts"]
        if self._settings.candidate is not None:
            paths.append(self._settings.candidate)
        return tuple((str(path), _stamp(path)) for path in paths)


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size
