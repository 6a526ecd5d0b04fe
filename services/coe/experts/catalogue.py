"""The bundles on this machine."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

from coe.experts.bundle import MANIFEST, TOKENIZER, WEIGHTS, Bundle
from coe.experts.left_out import LeftOut, left_out
from coe.experts.manifest import ID_PATTERN, is_outdated, raw_manifest, read_manifest
from coe.platform import logs
from coe.platform.errors import ArtifactError, ExpertNotFound

_log = logs.get(__name__)


class Catalogue:
    """The directory with one bundle per subdirectory. Nothing is cached: a new import is visible at once."""

    def __init__(self, experts_dir: Path) -> None:
        self.directory = experts_dir
        self._told: set[LeftOut] = set()

    def list(self) -> list[Bundle]:
        """All usable bundles, sorted by id. Outdated and damaged ones are logged once each."""
        bundles, others = self.look()
        for one in others:
            if one not in self._told:
                _log.warning("expert is unusable", expert=one.expert_id, reason=one.reason, fix=one.fix)
        self._told = set(others)
        return [*bundles]

    def look(self) -> tuple[Sequence[Bundle], Sequence[LeftOut]]:
        """All usable bundles, sorted by id, and those that can't be used. Hidden directories are unfinished imports."""
        if not self.directory.is_dir():
            return (), ()
        bundles, others = [], []
        found = [path for path in self.directory.iterdir() if not path.name.startswith(".") and path.is_dir()]
        for path in sorted(found):
            try:
                bundles.append(Bundle.open(path))
            except ArtifactError as error:
                others.append(left_out(path, error))
        return bundles, others

    def get(self, expert_id: str) -> Bundle:
        """Raises ExpertNotFound, or ArtifactError when the bundle is damaged or outdated."""
        return Bundle.open(self._path(expert_id))

    def remove(self, expert_id: str) -> None:
        """Deletes a bundle, damaged or not. Replicas keep the weights, which they share by hard links."""
        discard(self._path(expert_id))

    def replicate(self, expert_id: str, number: int) -> Bundle:
        """Creates `ID@replica-NUMBER`, a bundle that shares the expert's weights. An existing replica is kept, unless
        its weights have been replaced since.
        """
        bundle = self.get(expert_id)
        if bundle.manifest.replica_of is not None:
            raise ArtifactError(f"{expert_id} is itself a replica: replicate {bundle.manifest.replica_of} instead")
        replica_id = f"{expert_id}@replica-{number}"
        target = self.directory / replica_id
        if target.exists() and (is_outdated(target / MANIFEST) or not _are_linked(target, bundle.path)):
            if raw_manifest(target / MANIFEST).get("replica_of", expert_id) != expert_id:
                raise ArtifactError(f"{replica_id} exists and is not a replica of {expert_id}", expert_id=replica_id)
            discard(target)
        if target.exists():
            return Bundle.open(target)
        staging = self.directory / f".replica-{replica_id}-{os.getpid()}"
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            for name in (WEIGHTS, TOKENIZER):
                os.link(bundle.path / name, staging / name)
            changed = read_manifest(bundle.path / MANIFEST).model_copy(
                update={"id": replica_id, "replica_of": expert_id}
            )
            (staging / MANIFEST).write_text(changed.model_dump_json(indent=1))
            staging.rename(target)
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise
        return Bundle.open(target)

    def _path(self, expert_id: str) -> Path:
        path = self.directory / expert_id
        if not re.fullmatch(ID_PATTERN, expert_id) or not path.is_dir():
            raise ExpertNotFound(f"expert {expert_id!r} is not hosted here", expert_id=expert_id)
        return path


def _are_linked(bundle: Path, other: Path) -> bool:
    try:
        return all((bundle / name).samefile(other / name) for name in (WEIGHTS, TOKENIZER))
    except OSError:
        return False


def discard(bundle: Path) -> None:
    """Deletes a bundle's directory. It is renamed first, so no reader sees a partly deleted bundle."""
    doomed = bundle.with_name(f".removed-{bundle.name}-{os.getpid()}")
    # In containers pids repeat: a killed process with the same pid may have left this directory.
    shutil.rmtree(doomed, ignore_errors=True)
    bundle.rename(doomed)
    shutil.rmtree(doomed)
