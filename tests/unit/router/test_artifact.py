"""Artifacts survive the disk, and anything else is refused."""

import json
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from coe.encoder import Encoder
from coe.platform.errors import ArtifactError
from coe.router import artifact as artifacts
from coe.router.classifier import Classifier
from unit.router import support


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "router.safetensors"
    artifacts.save(path, support.artifact())
    return path


def test_round_trip(path: Path) -> None:
    artifact, loaded = support.artifact(), artifacts.load(path)
    assert (loaded.thresholds, loaded.encoder, loaded.figures) == (
        artifact.thresholds,
        artifact.encoder,
        artifact.figures,
    )
    for text in support.TEXTS:
        np.testing.assert_allclose(loaded.novelty.features(text), artifact.novelty.features(text), atol=0.02)
    features = support.some_features(artifact.novelty)
    before, after = artifact.model.scores(features), loaded.model.scores(features)
    np.testing.assert_allclose(after.probabilities, before.probabilities, atol=0.02)
    np.testing.assert_allclose(after.out_of_distribution, before.out_of_distribution, atol=0.02)


def test_a_full_disk_is_an_error_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "router.partial").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        artifacts.save(tmp_path / "router.safetensors", support.artifact())


def test_the_version_names_the_content(path: Path, tmp_path: Path) -> None:
    assert artifacts.save(tmp_path / "again", support.artifact()) == artifacts.load(path).version
    assert artifacts.save(tmp_path / "other", support.artifact("other")) != artifacts.load(path).version


def test_every_flipped_byte_is_noticed(path: Path) -> None:
    content = path.read_bytes()
    header = 8 + int.from_bytes(content[:8], "little")
    for position in [*range(0, header, 17), *range(header, len(content), 7919)]:
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


def test_another_encoder_is_refused() -> None:
    class Other:
        fingerprint = "another"

    with pytest.raises(ArtifactError, match="another encoder"):
        Classifier(support.artifact("abc"), cast("Encoder", Other()))


def test_the_home_of_the_user_comes_first(tmp_path: Path) -> None:
    assert artifacts.locate(tmp_path) == artifacts.packaged()
    artifacts.save(artifacts.trained(tmp_path), support.artifact())
    assert artifacts.locate(tmp_path) == artifacts.trained(tmp_path)
