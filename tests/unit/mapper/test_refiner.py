"""A refiner learns what a text tells about the experts; its file is refused when it is not the mapping's."""

from pathlib import Path

import numpy as np
import pytest

from coe.mapper.refiner_file import dump_refiner, load_refiner
from coe.mapper.refiner_fit import Refined, RefinerSettings, fit_refiner
from coe.mapper.response import Penalties
from coe.mapper.solve import Limits, solve
from coe.mapper.split import folds
from coe.mapper.text_features import NAMES, text_features
from coe.platform.errors import ArtifactError

PROMPTS = 600
SETTINGS = RefinerSettings(parts=4, penalties=Penalties(shared=0.3, expert=0.3), part_support=20.0, min_cell=50)
World = tuple[list[str], np.ndarray, list[str]]


def text(category: int, hard: bool, number: int) -> str:
    topic = ("Count the marbles", "Is the contract valid")[category]
    return f"{topic} in case {number}: {'integrate the nested radical' if hard else 'add two and two'}"


@pytest.fixture(scope="module")
def world() -> World:
    """Two categories; within each, words decide whether the small expert can do it. It was never run on law."""
    random = np.random.default_rng(0)
    category = np.arange(PROMPTS) % 2
    hard = random.random(PROMPTS) < 0.5
    small = np.where(hard, 0.1, 0.9) > random.random(PROMPTS)
    large = np.full(PROMPTS, 0.9) > random.random(PROMPTS)
    scores = np.stack([small, large], axis=1).astype(float)
    scores[category == 1, 0] = np.nan
    names = [("math/school", "law")[value] for value in category]
    return names, scores, [text(c, bool(h), n) for n, (c, h) in enumerate(zip(category, hard, strict=True))]


@pytest.fixture(scope="module")
def refined(world: World) -> Refined:
    names, scores, texts = world
    return fit_refiner(names, scores, text_features(texts), list(folds(np.arange(PROMPTS), 4, 0)), SETTINGS)


def test_parts_tell_apart_what_each_expert_can_do(refined: Refined) -> None:
    rows = {name: row for row, name in enumerate(refined.table.cells)}
    easy, hard = (refined.refiner.refine("math", [text(0, hard, 9999)])[0] for hard in (False, True))
    assert refined.table.quality[rows[easy], 0] > 0.7
    assert refined.table.quality[rows[hard], 0] < 0.3
    assert refined.table.share.sum() == pytest.approx(1.0)


def test_parts_are_numbered_by_how_much_depends_on_the_expert(refined: Refined) -> None:
    rows = [row for row, name in enumerate(refined.table.cells) if name.startswith("math/school/")]
    spread = np.ptp(refined.table.quality[rows], axis=1)
    assert spread[:2].max() < 0.2 < 0.6 < spread[2:].min()


def test_an_expert_never_run_in_a_category_is_not_eligible_in_its_parts(refined: Refined) -> None:
    law = [row for row, name in enumerate(refined.table.cells) if name.startswith("law")]
    assert not refined.table.eligible[law, 0].any()
    assert refined.table.eligible[law, 1].all()


def test_a_known_category_narrows_the_parts(refined: Refined) -> None:
    assert all(part.startswith("math/school/") for part in refined.refiner.refine("math", ["a", text(1, True, 1)]))
    assert refined.refiner.has("math")
    assert not refined.refiner.has("medical")


def test_a_file_gives_the_same_parts(refined: Refined, world: World, tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    content, digest = dump_refiner(refined.refiner)
    path.write_bytes(content)
    loaded = load_refiner(path, digest)
    texts = world[2][:50]
    assert loaded.refine("math", texts) == refined.refiner.refine("math", texts)


def test_what_is_learnt_alike_has_one_digest(refined: Refined) -> None:
    assert len({dump_refiner(refined.refiner)[1] for _ in range(20)}) == 1


def test_a_file_of_another_mapping_or_a_damaged_one_is_refused(refined: Refined, tmp_path: Path) -> None:
    path = tmp_path / "r.safetensors"
    content, digest = dump_refiner(refined.refiner)
    path.write_bytes(content)
    with pytest.raises(ArtifactError, match="not the refiner"):
        load_refiner(path, "0" * 64)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ArtifactError):
        load_refiner(path, digest)
    with pytest.raises(ArtifactError, match="missing"):
        load_refiner(tmp_path / "none", digest)


@pytest.mark.parametrize("text", ["", "\ud800", "9" * 10_000, "日本語の質問", "a" * 100_000, "1e999 -5 $^{2}"])
def test_signs_are_finite_for_any_text(text: str) -> None:
    features = text_features([text])
    assert features.shape == (1, len(NAMES))
    assert np.isfinite(features).all()


def test_a_cell_that_nothing_is_told_to_be_of_has_what_its_outcomes_say(world: World) -> None:
    """By embeddings that say nothing, all prompts are told to be of the larger cell."""
    names, scores, texts = world
    rows = [row for row, name in enumerate(names) if name == "law"][:60] + [
        row for row, name in enumerate(names) if name != "law"
    ]
    kept = [texts[0]] * len(rows)
    inner = list(folds(np.arange(len(rows)), 4, 0))
    found = fit_refiner(
        [names[row] for row in rows],
        scores[rows],
        text_features(kept),
        inner,
        SETTINGS,
        np.ones((len(rows), 2), np.float32),
    )
    law = found.table.cells.index("law/all")
    assert found.table.share[law] == 0
    assert found.table.support[law].tolist() == [0, 60]
    assert found.table.eligible[law].tolist() == [False, True]
    solution = solve(
        found.table.quality, found.table.share, *[np.array([7.0, 70.0])] * 2, Limits(9.0), found.table.eligible
    )
    assert solution.chosen[law] == 1


def test_experts_that_are_equal_everywhere_divide_nothing(world: World) -> None:
    names, scores, texts = world
    inner = list(folds(np.arange(PROMPTS), 4, 0))
    found = fit_refiner(names, np.ones_like(scores), text_features(texts), inner, SETTINGS)
    assert found.table.cells == ("law/all", "math/school")
