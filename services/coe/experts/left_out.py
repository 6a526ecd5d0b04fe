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
    """`outdated`: it is as good as it was, and only packed as an older version did. `source`: of its manifest."""

    expert_id: str
    reason: str
    fix: str
    outdated: bool
    source: str

    def __str__(self) -> str:
        return f"expert {self.expert_id} is left out: {self.reason}; fix: {self.fix}"

    @property
    def replica(self) -> tuple[str, int] | None:
        """Whose replica it is by its name, and which one."""
        found = _REPLICA.fullmatch(self.expert_id)
        return (found["of"], int(found["number"])) if found else None


def left_out(folder: Path, error: ArtifactError) -> LeftOut:
    """What is to be said of the bundle in `folder`, whose opening raised `error`."""
    facts = raw_manifest(folder / MANIFEST)
    outdated = has_old_packing(facts)
    packing = facts.get("packing", 1)
    reason = f"its weights are packed as of version {packing}, not {PACKING}" if outdated else error.message
    source = facts.get("source")
    source = source if isinstance(source, str) and source.isprintable() else ""
    synthetic = facts.get("synthetic") is True
    return LeftOut(folder.name, reason, _fix(folder, source, outdated, synthetic), outdated, source)


def _fix(folder: Path, source: str, outdated: bool, synthetic: bool) -> str:
    name = folder.name
    if _is_closed(folder):
        # As good as it was: to remove it would lose it.
        return f"chmod -R a+rX {shlex.quote(str(folder))}"
    if not re.fullmatch(ID_PATTERN, name):
        return f"rm -r {shlex.quote(str(folder))}"
    # Whatever is outdated gives way by itself.
    steps = [] if outdated else [f"coe experts remove {name}"]
    if replica := _REPLICA.fullmatch(name):
        steps.append(f"coe experts replicate {replica['of']} --count {replica['number']}")
    elif source:
        steps.append(f"coe import {_importable(source)} --id {name}{' --synthetic' if synthetic else ''}")
    return " && ".join(steps) or f"coe experts remove {name}"


def _is_closed(folder: Path) -> bool:
    """It is there, and not ours to read."""
    if not os.access(folder, os.R_OK | os.X_OK):
        return True
    files = (folder / name for name in (MANIFEST, TOKENIZER, WEIGHTS))
    return any(file.exists() and not os.access(file, os.R_OK) for file in files)


def _importable(source: str) -> str:
    """As `coe import` takes it. Of a file or folder only the name is known: where it lies is for its owner to say."""
    if source.startswith("pypi:"):
        return shlex.quote(source.split(" ")[0])
    return shlex.quote(source if source.startswith(("hf:", "/")) else f"/PATH/TO/{source}")
