"""What is looked at before anything of a stack starts."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from coe.experts.bundle import MANIFEST, Bundle
from coe.experts.catalogue import Catalogue
from coe.local import prepare
from coe.local.options import StackOptions
from coe.local.packaged import EXPERT_ID
from coe.platform.errors import ArtifactError, Unavailable

MIB = 1 << 20


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
    hosted = await prepare.prepare(tmp_path, StackOptions(), pytest.fail)
    assert [bundle.id for bundle in hosted] == [EXPERT_ID, f"{EXPERT_ID}@replica-3"]
