"""Artifacts survive the disk, and anything else is refused."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from coe.platform.errors import ArtifactError
from coe.router import artifact as artifacts
from coe.router.artifact import Artifact, EncoderKind
from coe.router.model import NeighbourSettings, RouterModel
from coe.router.policy import Thresholds


@pytest.fixture
def artifact() -> Artifact:
    rng = np.random.default_rng(0)
    prototypes = rng.normal(size=(6, 16)).astype(np.float32)
    model = RouterModel(
        categories=("coding", "general", "math"),
        weight=rng.normal(size=(16, 3)).astype(np.float32).T,
        bias=np.zeros(3, np.float32),
        prototypes=prototypes / np.linalg.norm(prototypes, axis=1, keepdims=True),
        prototype_labels=np.array([0, 0, 1, 1, 2, 2]),
        neighbours=NeighbourSettings(k=2, sharpness=10, share=0.3),
        temperature=0.7,
    )
    return Artifact(model, Thresholds(0.4, 0.9), EncoderKind("abc", 36, 10, True), "router-1", {"accuracy": 0.98})


@pytest.fixture
def path(artifact: Artifact, tmp_path: Path) -> Path:
    path = tmp_path / "router.safetensors"
    artifacts.save(path, artifact)
    return path


def test_round_trip(artifact: Artifact, path: Path) -> None:
    loaded = artifacts.load(path)
    assert (loaded.thresholds, loaded.encoder, loaded.version) == (
        artifact.thresholds,
        artifact.encoder,
        artifact.version,
    )
    embeddings = artifact.model.prototypes
    before, after = artifact.model.scores(embeddings), loaded.model.scores(embeddings)
    np.testing.assert_allclose(after.probabilities, before.probabilities, atol=0.02)
    np.testing.assert_allclose(after.out_of_distribution, before.out_of_distribution, atol=0.01)


def test_every_flipped_byte_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for position in [*range(0, header, 7), *range(header, len(content), 5)]:
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        with pytest.raises(ArtifactError):
            artifacts.load(path)


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_a_cut_file_is_refused(keep: int, path: Path) -> None:
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtifactError, match="corrupt"):
        artifacts.load(path)


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="coe train router"):
        artifacts.load(tmp_path / "none")


def test_another_format_is_refused(path: Path) -> None:
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["__metadata__"]["format"] = "99"
    raw = json.dumps(header).encode()
    path.write_bytes(len(raw).to_bytes(8, "little") + raw + content[8 + size :])
    with pytest.raises(ArtifactError, match="format 99"):
        artifacts.load(path)


def test_the_home_of_the_user_comes_first(artifact: Artifact, tmp_path: Path) -> None:
    assert artifacts.locate(tmp_path) == artifacts.packaged()
    artifacts.save(artifacts.trained(tmp_path), replace(artifact, version="mine"))
    assert artifacts.load(artifacts.locate(tmp_path)).version == "mine"
