"""Bundles and leftovers that another version packed."""

import json
from pathlib import Path

import pytest

from coe.experts import importer, manifest
from coe.experts.catalogue import Catalogue
from coe.experts.gguf_source import GgufSource
from coe.experts.manifest import CHUNK_BYTES, PACKING
from coe.platform.errors import ArtifactError
from integration.experts.tiny_import import run


def test_leftovers_packed_another_way_are_worth_nothing(
    source: GgufSource, experts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(done: int, total: int) -> None:
        if done > 2 * CHUNK_BYTES:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(source, experts, progress=crash)
    monkeypatch.setattr(importer, "PACKING", PACKING + 1)
    monkeypatch.setattr(manifest, "PACKING", PACKING + 1)
    done: list[int] = []
    run(source, experts, progress=lambda at, total: done.append(at)).verify()
    assert min(done) < CHUNK_BYTES


def test_bundles_of_another_packing_are_refused_and_imported_anew(
    source: GgufSource, experts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(source, experts)
    catalogue = Catalogue(experts)
    catalogue.replicate("tiny", 1)
    monkeypatch.setattr(importer, "PACKING", PACKING + 1)
    monkeypatch.setattr(manifest, "PACKING", PACKING + 1)
    with pytest.raises(ArtifactError, match="import it again"):
        catalogue.get("tiny")
    assert catalogue.list() == []
    assert run(source, experts).manifest.packing == PACKING + 1
    assert catalogue.replicate("tiny", 1).manifest.packing == PACKING + 1
    catalogue.get("tiny").verify()


def test_another_models_outdated_bundle_is_left_alone(source: GgufSource, another: GgufSource, experts: Path) -> None:
    path = run(source, experts).path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"packing": PACKING - 1}))
    with pytest.raises(ArtifactError, match="with another model"):
        run(another, experts)
    assert (path.parent / "weights.coe").is_file()


def test_an_outdated_bundle_gives_way_to_a_complete_one_only(source: GgufSource, experts: Path) -> None:
    path = run(source, experts).path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"packing": PACKING - 1}))

    def look(done: int, total: int) -> None:
        assert path.is_file()
        if done == total:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(source, experts, progress=look)
    assert json.loads(path.read_text())["packing"] == PACKING - 1
    run(source, experts).verify()


def test_the_bundle_of_a_newer_version_is_left_alone(source: GgufSource, experts: Path) -> None:
    path = run(source, experts).path / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"packing": PACKING + 1}))
    with pytest.raises(ArtifactError, match=f"{PACKING + 1}, which is newer than {PACKING}"):
        run(source, experts)
    assert path.is_file()
