"""Bundles that are not what their manifests say."""

import json
from collections import OrderedDict
from pathlib import Path

import pytest

from coe.experts import tokenizer
from coe.experts.bundle import Bundle
from coe.experts.catalogue import Catalogue
from coe.experts.gguf_source import GgufSource
from coe.experts.manifest import CHUNK_BYTES
from coe.experts.tokenizer import ExpertTokenizer
from coe.platform.errors import ArtifactError, ChecksumMismatch
from integration.experts.tiny_import import run


def test_what_is_damaged_can_be_removed(source: GgufSource, experts: Path) -> None:
    (run(source, experts).path / "manifest.json").write_text("{")
    Catalogue(experts).remove("tiny")
    assert list(experts.iterdir()) == []


def test_damage_is_found(source: GgufSource, experts: Path) -> None:
    bundle = run(source, experts)
    with bundle.weights_path.open("r+b") as file:
        file.seek(CHUNK_BYTES + 100)
        file.write(b"x")
    with pytest.raises(ChecksumMismatch, match=str(CHUNK_BYTES)):
        bundle.verify()


def test_a_bundle_without_its_tokenizer_says_so(
    source: GgufSource, experts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenizer, "_known", OrderedDict())
    bundle = run(source, experts)
    bundle.tokenizer_path.unlink()
    with pytest.raises(ArtifactError, match=r"tokenizer\.json: No such file"):
        ExpertTokenizer.of(bundle)


def test_a_bundle_that_does_not_fit_its_manifest_is_refused(source: GgufSource, experts: Path) -> None:
    bundle = run(source, experts)
    path = bundle.path / "manifest.json"
    good = path.read_text()
    facts = json.loads(good)
    for change in ({"version": 2}, {"weights_bytes": 5}, {"checksums": []}, {"id": "../up"}, {"surprise": 1}):
        path.write_text(json.dumps(facts | change))
        with pytest.raises(ArtifactError):
            Bundle.open(bundle.path)
    for change in ({"nbytes": 64}, {"rows": 1 << 40}, {"format": "q9"}):
        tensors = facts["tensors"] | {"embedding": facts["tensors"]["embedding"] | change}
        path.write_text(json.dumps(facts | {"tensors": tensors}))
        with pytest.raises(ArtifactError, match=r"embedding|q9"):
            Bundle.open(bundle.path)
    path.write_text(good[:-20])
    with pytest.raises(ArtifactError):
        Bundle.open(bundle.path)
