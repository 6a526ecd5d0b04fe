"""Bundles that can't be used: why, and the command that fixes each."""

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from coe.experts.bundle import MANIFEST, TOKENIZER, WEIGHTS
from coe.experts.manifest import ID_PATTERN, PACKING, has_old_packing, raw_manifest
from coe.platform.errors import ArtifactError

_REPLICA = re.compile(r"(?P<of>[^@]+)@replica-(?P<number>\d+)")


@dataclass(frozen=True)
class LeftOut:
    """`outdated`: the bundle is intact, but packed by an older version. `source`: as its manifest gives it."""

    expert_id: str
    reason: str
    fix: str
    outdated: bool
    source: str

    def __str__(self) -> str:
        return f"expert {self.expert_id} is unusable: {self.reason}; to fix it: {self.fix}"

    @property
    def replica(self) -> tuple[str, int] | None:
        """The expert that it is a replica of, and its number, going by its name."""
        found = _REPLICA.fullmatch(self.expert_id)
        return (found["of"], int(found["number"])) if found else None


def left_out(folder: Path, error: ArtifactError) -> LeftOut:
    """Describes the bundle in `folder`, which could not be opened because of `error`."""
    facts = raw_manifest(folder / MANIFEST)
    outdated = has_old_packing(facts)
    packing = facts.get("packing", 1)
    reason = f"its weights have packing version {packing}, not {PACKING}" if outdated else error.message
    source = facts.get("source")
    source = source if isinstance(source, str) and source.isprintable() else ""
    synthetic = facts.get("synthetic") is True
    return LeftOut(folder.name, reason, _fix(folder, source, outdated, synthetic), outdated, source)


def _fix(folder: Path, source: str, outdated: bool, synthetic: bool) -> str:
    name = folder.name
    if _is_closed(folder):
        # It may well be intact: removing it would lose it.
        return f"chmod -R a+rX {shlex.quote(str(folder))}"
    if not re.fullmatch(ID_PATTERN, name):
        return f"rm -r {shlex.quote(str(folder))}"
    # An import replaces an outdated bundle by itself.
    steps = [] if outdated else [f"coe experts remove {name}"]
    if replica := _REPLICA.fullmatch(name):
        steps.append(f"coe experts replicate {replica['of']} --count {replica['number']}")
    elif source:
        steps.append(f"coe import {_importable(source)} --id {name}{' --synthetic' if synthetic else ''}")
    return " && ".join(steps) or f"coe experts remove {name}"


def _is_closed(folder: Path) -> bool:
    """Whether the bundle exists, but this user may not read it."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return True
    files = (folder / name for name in (MANIFEST, TOKENIZER, WEIGHTS))
    return any(file.exists() and not os.access(file, os.R_OK) for file in files)


def _importable(source: str) -> str:
    """The source as an argument of `coe import`. Only the name of a file or folder is known: the user must fill in
    its path."""
    if source.startswith("pypi:"):
        return shlex.quote(source.split(" ")[0])
    return shlex.quote(source if source.startswith(("hf:", "/")) else f"/PATH/TO/{source}")
