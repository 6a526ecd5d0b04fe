"""The state that the mapper decides by: read from files, and reread when they change."""

from collections.abc import Mapping as Lookup
from dataclasses import dataclass, field
from pathlib import Path

from coe._proto import common_pb2
from coe.experts.catalogue import Catalogue
from coe.mapper.bindings import FILE_NAME, nobody, read_bindings, without_effect
from coe.mapper.mapping import Mapping
from coe.mapper.mapping_file import load_mapping, locate
from coe.mapper.policy import Hosted, plan_of
from coe.mapper.refiner import Refiner
from coe.mapper.refiner_file import FILE_NAME as REFINER
from coe.mapper.refiner_file import load_refiner, refiner_of
from coe.mapper.settings import MapperSettings
from coe.mapper.tenants import FILE_NAME as BUDGETS
from coe.mapper.tenants import read_budgets
from coe.platform import logs
from coe.platform.errors import ArtifactError, CoEError, InvalidPrompt
from coe.platform.renewed import stamp

_log = logs.get(__name__)


@dataclass(frozen=True, slots=True)
class Solved:
    """A mapping with the refiner that finds its parts; None if it has none or parts are turned off."""

    mapping: Mapping
    refiner: Refiner | None = None


@dataclass(frozen=True, slots=True)
class State:
    """A consistent snapshot; each batch is decided by one. `budgets` are the tenants' budgets."""

    solved: Solved
    candidate: Solved | None
    hosted: Hosted
    budgets: Lookup[str, common_pb2.Budget] = field(default_factory=dict)

    @property
    def mapping(self) -> Mapping:
        return self.solved.mapping


class StateFiles:
    """Owns the current state. Call `load` at the start and `refresh` periodically; both block briefly."""

    def __init__(self, home: Path, settings: MapperSettings) -> None:
        self._home = home
        self._settings = settings
        self._catalogue = Catalogue(home / "experts")
        self._state: State | None = None
        self._seen: tuple[object, ...] = ()

    @property
    def current(self) -> State:
        assert self._state is not None, "load first"
        return self._state

    def load(self) -> None:
        """Reads all files. Raises ArtifactError when one is missing or corrupt."""
        self._seen = self._stamps()
        self._state = self._read()

    def refresh(self) -> bool:
        """Rereads the files if one has changed. True: there is a new state.

        When that fails, the failure is logged and the old state stays in use.
        """
        stamps = self._stamps()
        if stamps == self._seen:
            return False
        try:
            self._state = self._read()
        except CoEError as error:
            self._seen = stamps
            _log.error("mapping not reloaded, the old one stays in use", reason=error.message, **error.details)
            return False
        except OSError as error:
            # A file disappeared while being read: the next refresh may find it again.
            _log.warning("mapping not reloaded, the old one stays in use", reason=str(error))
            return False
        self._seen = stamps
        _log.info("mapping reloaded", version=self._state.mapping.version, experts=len(self._state.hosted.ids))
        return True

    def _read(self) -> State:
        settings = self._settings
        ids = settings.experts or frozenset(bundle.id for bundle in self._catalogue.list())
        hosted = Hosted(ids, read_bindings(self._home / FILE_NAME))
        solved = self._solved(self._mapping_path())
        budgets = read_budgets(self._home / BUDGETS)
        for tenant, budget in budgets.items():
            try:
                plan_of(solved.mapping, budget)
            except InvalidPrompt as error:
                # An operator's mistake: as an InvalidPrompt it would fail every prompt of the tenant.
                message = f"{BUDGETS}, {tenant}: {error.message}"
                raise ArtifactError(message, path=self._home / BUDGETS, tenant=tenant) from None
        mapped = [expert.name for expert in solved.mapping.pool]
        for line in nobody(hosted.bindings, mapped, ids):
            _log.warning("prompts are not routed", file=FILE_NAME, reason=line)
        for line in without_effect(hosted.bindings, mapped, ids):
            # Not refused: the bundle may be imported later.
            _log.warning("a binding has no effect", file=FILE_NAME, reason=line)
        return State(solved, self._candidate(), hosted, budgets)

    def _candidate(self) -> Solved | None:
        """The mapping on trial, if any.

        Once there is a state, an unusable file does not block the reload: the old candidate stays on trial.
        """
        if (path := self._settings.candidate) is None:
            return None
        try:
            return self._solved(path)
        except CoEError as error:
            if self._state is None:
                raise
            _log.error("candidate not reloaded, the old one stays in use", reason=error.message, **error.details)
            return self._state.candidate

    def _solved(self, path: Path) -> Solved:
        mapping = load_mapping(path)
        if not mapping.refiner or not self._settings.parts:
            return Solved(mapping)
        return Solved(mapping, load_refiner(refiner_of(path, mapping.refiner), mapping.refiner))

    def _mapping_path(self) -> Path:
        return self._settings.mapping or locate(self._home)

    def _stamps(self) -> tuple[object, ...]:
        paths = [self._home / FILE_NAME, self._home / BUDGETS, self._home / "experts"]
        for mapping in (self._mapping_path(), self._settings.candidate):
            if mapping is not None:
                # A refiner may arrive after its mapping, as a new file in the folder or over an existing one.
                paths += [mapping, mapping.parent, mapping.with_name(REFINER)]
        return tuple((str(path), stamp(path)) for path in paths)
