"""Outcome files to a mapping with its refiner, as `coe train mapping` writes them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from coe.mapper.mapping_file import PACKAGED
from coe.mapper.refiner_file import FILE_NAME, refiner_of
from coe.mapper.settings import MapperSettings
from coe.mapper.state import StateFiles
from coe.mapper.train import Trained, train_mapping
from coe.platform.errors import InvalidPrompt

SMALL, LARGE = "gemma-2-9b-it", "llama3-chatqa-1.5-70b"
PROMPTS = {
    "math": "Compute {} plus 7.",
    "coding": "def f(x):\n    return x[{}]",
    "finance": "Is bond {} worth its price?",
}


def outcomes(path: Path, sizes: dict[str, int], seed: int = 0) -> Path:
    """The large model is better, most of all where the number is large."""
    random = np.random.default_rng(seed)
    rows = []
    for category, size in sizes.items():
        for number in random.integers(1, 10**6, size).tolist():
            scores = {SMALL: float(random.random() < 0.4), LARGE: float(random.random() < 0.9)}
            text = PROMPTS[category].format(number)
            rows.append({"dataset": "d", "prompt_id": text, "prompt": text, "category": category, "scores": scores})
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def solve(data: Path, mapping: Path, **options: float) -> Trained:
    trained = train_mapping(data, mapping.with_name("mapping.refiner.safetensors"), **options)
    mapping.parent.mkdir(exist_ok=True)
    mapping.write_text(trained.text)
    return trained


def state(home: Path, candidate: Path | None = None) -> StateFiles:
    return StateFiles(home, MapperSettings(experts=frozenset({"tiny"}), candidate=candidate))


def test_a_mapping_that_can_t_be_solved_leaves_the_one_in_force(tmp_path: Path) -> None:
    path = tmp_path / "artifacts" / "mapping.yaml"
    solve(outcomes(tmp_path / "one", {"math": 90}), path)
    before = sorted(path.parent.iterdir())
    with pytest.raises(InvalidPrompt, match="cheapest choice uses 9"):
        solve(outcomes(tmp_path / "other", {"coding": 90}), path, balanced_b=3)
    assert sorted(path.parent.iterdir()) == before
    state(tmp_path).load()


def test_mappings_of_one_folder_have_refiners_of_their_own(tmp_path: Path) -> None:
    path, candidate = (tmp_path / "artifacts" / name for name in ("mapping.yaml", "candidate.yaml"))
    solve(outcomes(tmp_path / "one", {"math": 90}), path)
    solve(outcomes(tmp_path / "other", {"coding": 90}), candidate)
    files = state(tmp_path, candidate)
    files.load()
    assert files.current.candidate is not None
    found = [solved.refiner for solved in (files.current.solved, files.current.candidate)]
    assert [refiner and refiner.cells for refiner in found] == [("math",), ("coding",)]


def test_a_copy_of_the_packaged_mapping_keeps_its_refiner(tmp_path: Path) -> None:
    path, candidate = (tmp_path / "artifacts" / name for name in ("mapping.yaml", "candidate.yaml"))
    path.parent.mkdir()
    shutil.copy(PACKAGED, path)
    shutil.copy(PACKAGED.with_name(FILE_NAME), path.parent)
    solve(outcomes(tmp_path / "one", {"math": 90}), candidate)
    state(tmp_path, candidate).load()


def test_a_refiner_that_arrives_after_its_mapping_is_taken(tmp_path: Path) -> None:
    files = state(tmp_path)
    files.load()
    path = tmp_path / "artifacts" / "mapping.yaml"
    trained = solve(outcomes(tmp_path / "one", {"math": 90}), path)
    refiner = refiner_of(path, trained.mapping.refiner)
    refiner.rename(tmp_path / "late")
    assert not files.refresh()
    (tmp_path / "late").rename(refiner)
    assert files.refresh()
    assert files.current.mapping.version == trained.mapping.version


def test_a_category_of_few_prompts_has_an_expert_of_its_own_outcomes(tmp_path: Path) -> None:
    data = outcomes(tmp_path / "one", {"math": 150, "coding": 150, "finance": 3})
    trained = solve(data, tmp_path / "artifacts" / "mapping.yaml", balanced_b=40, economy_b=10)
    mapping = trained.mapping
    for name in mapping.budgets:
        assert mapping.budgets[name].experts[mapping.cell("finance", "finance/all").name] in (SMALL, LARGE)
    assert mapping.budgets["economy"].active_params_b <= 10
    assert sum(cell.share for cell in mapping.cells if cell.is_part) == pytest.approx(1, abs=1e-4)
    assert max(mapping.cell("finance", "finance/all").support) == 3


def test_of_one_prompt_no_parts_are_learnt(tmp_path: Path) -> None:
    trained = solve(outcomes(tmp_path / "one", {"math": 1}), tmp_path / "artifacts" / "mapping.yaml")
    assert not trained.mapping.refiner
    assert [cell.name for cell in trained.mapping.cells if not cell.pooled] == ["math"]


def test_a_category_that_only_models_left_out_were_run_on_is_not_there(tmp_path: Path) -> None:
    data = outcomes(tmp_path / "one", {"math": 90})
    stranger = {"dataset": "d", "prompt_id": "s", "prompt": "s", "category": "finance", "scores": {"unheard/of": 1}}
    data.write_text(f"{data.read_text()}\n{json.dumps(stranger)}\n")
    trained = solve(data, tmp_path / "artifacts" / "mapping.yaml")
    assert trained.unknown == ("unheard/of",)
    assert trained.mapping.cell("finance").pooled


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosted_b": 5.0}, r"5 B in all .* \(budget quality; .*--hosted"),
        ({"balanced_b": 8.0}, r"the cheapest choice uses 9\.2 B .* \(budget balanced, 8 B; --budget"),
        ({"economy_b": 5.0}, r"\(budget economy, 5 B; .*--economy"),
        ({"balanced_b": float("nan")}, "positive number"),
        ({"economy_b": -1.0}, "positive number"),
    ],
)
def test_limits_that_nothing_fits_are_named(options: dict[str, float], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidPrompt, match=message):
        solve(outcomes(tmp_path / "one", {"math": 20}), tmp_path / "artifacts" / "mapping.yaml", **options)
