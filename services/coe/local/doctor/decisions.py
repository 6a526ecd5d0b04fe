"""Whether the decision files of router and mapper can be loaded, and whether the mapped experts are hosted here."""

from importlib import import_module
from pathlib import Path

from coe.local.doctor.check import Check, Level, judged
from coe.mapper import bindings, tenants
from coe.mapper.settings import MapperSettings
from coe.mapper.state import State, StateFiles
from coe.platform.errors import ArtifactError
from coe.router.settings import RouterSettings

_ROUTER = "router artifact"
_FIXES = {
    bindings.FILE_NAME: "fix the file, or remove it and let `coe up` create a new one",
    tenants.FILE_NAME: "fix the file, or remove it (prompts that name no budget then have none)",
}


def router_check(home: Path) -> Check:
    try:
        # Imported late: the packages it needs are checked first.
        artifact = import_module("coe.router.artifact")
        version = artifact.load(RouterSettings().artifact or artifact.locate(home)).version
    except ArtifactError as error:
        return _damaged(error, _ROUTER)
    except ImportError as error:
        return Check(_ROUTER, Level.PROBLEM, str(error), "make setup")
    return Check(_ROUTER, Level.GOOD, version)


def mapper_checks(home: Path) -> list[Check]:
    files = StateFiles(home, MapperSettings())
    try:
        files.load()
    except ArtifactError as error:
        return [_damaged(error, "mapping")]
    return [Check("mapping", Level.GOOD, files.current.mapping.version), _bindings(files.current, home)]


def _bindings(state: State, home: Path) -> Check:
    name, fix = bindings.FILE_NAME, f"import the bundle (coe import), or edit {home / bindings.FILE_NAME}"
    bound, hosted = state.hosted.bindings, state.hosted.ids
    mapped = [expert.name for expert in state.mapping.pool]
    lines = bindings.nobody(bound, mapped, hosted) + bindings.without_effect(bound, mapped, hosted)
    if not bound and not lines:
        return Check(name, Level.GOOD, "none: the mapping's experts answer under their own names")
    found = "; ".join(lines) or f"{len(bound)} experts of the mapping, all with a bundle"
    return judged(name, not lines, found, fix, otherwise=Level.WARNING)


def _damaged(error: ArtifactError, what: str) -> Check:
    """A problem, named after the file at fault if the error gives it."""
    path = error.details.get("path", "")
    name = Path(path).name if Path(path).name in _FIXES else what
    train = "router" if what == _ROUTER else "mapping"
    fix = _FIXES.get(name, f"retrain it (coe train {train}), or move it away to use the packaged one")
    found = " ".join(error.message.split())
    return Check(name, Level.PROBLEM, f"{path}: {found}" if path else found, fix)
