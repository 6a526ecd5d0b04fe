"""A refiner learns what the embedding tells about the experts, and its file is refused when it is not the mapping's."""

from pathlib import Path

import numpy as np
import pytest

from coe.mapper.refiner_file import EncoderKind, load_refiner, save_refiner
from coe.mapper.refiner_fit import Refined, RefinerSettings, fit_refiner
from coe.mapper.split import folds
from coe.mapper.text_features import NAMES, text_features
from coe.platform.errors import ArtifactError

PROMPTS = 600
SETTINGS = RefinerSettings(parts=4, ridge=1.0, part_support=20.0, damping=1.0, min_cell=50)


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def world() -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray]:
    """Two categories told apart by the first axis; the third decides whether the small expert can do it."""
    random = np.random.default_rng(0)
    embeddings = random.normal(size=(PROMPTS, 8)) * 0.3
    category = np.arange(PROMPTS) % 2
    embeddings[:, 0] = np.where(category == 0, 3.0, -3.0)
    hard = random.random(PROMPTS) < 0.5
    embeddings[:, 2] = np.where(hard, 2.0, -2.0)
    small = np.where(hard, 0.1, 0.9) > random.random(PROMPTS)
    large = np.full(PROMPTS, 0.9) > random.random(PROMPTS)
    scores = np.stack([small, large], axis=1).astype(float)
    scores[category == 1, 0] = np.nan
    names = [("math/school", "law")[value] for value in category]
    return names, scores, np.zeros((PROMPTS, len(NAMES)), np.float32), unit(embeddings)


@pytest.fixture(scope="module")
def refined(world: tuple[list[str], np.ndarray, np.ndarray, np.ndarray]) -> Refined:
    names, scores, features, embeddings = world
    return fit_refiner(names, scores, features, embeddings, list(folds(np.arange(PROMPTS), 4, 0)), SETTINGS)


def test_easy_and_hard_prompts_get_different_parts(
    refined: Refined, world: tuple[list[str], np.ndarray, np.ndarray, np.ndarray]
) -> None:
    rows = {name: row for row, name in enumerate(refined.table.cells)}
    easy, hard = rows["math/school/1"], rows["math/school/4"]
    assert refined.table.quality[easy, 0] > 0.7
    assert refined.table.quality[hard, 0] < 0.3
    assert refined.table.share.sum() == pytest.approx(1.0)
    _, _, features, embeddings = world
    parts = refined.refiner.parts_of(features, embeddings)
    assert np.mean([part in rows for part in parts]) == 1.0


def test_an_expert_never_run_in_a_category_is_not_eligible_in_its_parts(refined: Refined) -> None:
    law = [row for row, name in enumerate(refined.table.cells) if name.startswith("law")]
    assert not refined.table.eligible[law, 0].any()
    assert refined.table.eligible[law, 1].all()


def test_a_known_category_narrows_the_parts(refined: Refined) -> None:
    embeddings = unit(np.full((2, 8), -1.0))
    assert all(part.startswith("math/school/") for part in refined.refiner.refine("math", ["a", "b"], embeddings))
    assert refined.refiner.has("math")
    assert not refined.refiner.has("medical")


def test_a_file_gives_the_same_parts(refined: Refined, tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    digest = save_refiner(path, refined.refiner, EncoderKind("abc", 256))
    loaded, kind = load_refiner(path, digest)
    assert kind == EncoderKind("abc", 256)
    embeddings = unit(np.random.default_rng(1).normal(size=(50, 8)))
    features = text_features(["text"] * 50)
    assert loaded.parts_of(features, embeddings) == refined.refiner.parts_of(features, embeddings)


def test_a_file_of_another_mapping_or_a_damaged_one_is_refused(refined: Refined, tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    digest = save_refiner(path, refined.refiner, EncoderKind("abc", 256))
    with pytest.raises(ArtifactError, match="not the refiner"):
        load_refiner(path, "0" * 64)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ArtifactError):
        load_refiner(path, digest)
    with pytest.raises(ArtifactError, match="missing"):
        load_refiner(tmp_path / "none", digest)


@pytest.mark.parametrize("text", ["", "\ud800", "9" * 10_000, "日本語の質問", "a" * 100_000, "1e999 -5 $^{2}"])
def test_features_are_finite_for_any_text(text: str) -> None:
    features = text_features([text])
    assert features.shape == (1, len(NAMES))
    assert np.isfinite(features).all()
