"""Files to an evaluation: which experts and prompts count, and what is refused."""

import json
from collections.abc import Sequence
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from rich.progress import Progress

from coe.evaluation import run
from coe.evaluation.evaluate import Evaluation
from coe.evaluation.summary import as_json
from coe.platform.errors import ArtifactError

SMALL, MIDDLE, LARGE = "gemma-2-9b-it", "llama-3.1-nemotron-51b-instruct", "llama3-chatqa-1.5-70b"


class LengthEncoder:
    fingerprint, dimensions = "lengths", 2

    def encode(self, texts: Sequence[str]) -> np.ndarray:
        angle = np.array([len(text) for text in texts])
        return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


@pytest.fixture(autouse=True)
def encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(run, "open_encoder", lambda spec: LengthEncoder())


def outcomes(path: Path, numbers: Sequence[int], models: Sequence[str]) -> Path:
    random = np.random.default_rng(numbers[0])
    rows = [
        {
            "dataset": "d",
            "prompt_id": str(number),
            "prompt": f"What is {number} plus {number * number}?",
            "category": "math",
            "scores": {model: float(random.random() < 0.4 + 0.2 * place) for place, model in enumerate(models)},
        }
        for number in numbers
    ]
    path.write_text("\n".join(map(json.dumps, rows)) + "\n")
    return path


def judged(train: Path, test: Path) -> tuple[Evaluation, list[str], str]:
    shown = StringIO()
    with Progress(console=Console(file=shown, width=200), disable=True) as progress:
        result, unknown = run.evaluate_files(None, train, test, experts=None, seed=0, progress=progress)
    json.dumps(as_json(result, 0), allow_nan=False)
    return result, unknown, shown.getvalue()


def test_the_pool_is_what_both_files_have(tmp_path: Path) -> None:
    train = outcomes(tmp_path / "train", range(1, 60), [SMALL, MIDDLE, "un/known"])
    test = outcomes(tmp_path / "test", range(100, 140), [SMALL, LARGE])
    result, unknown, shown = judged(train, test)
    assert [expert.name for expert in result.pool] == [SMALL]
    assert unknown == ["un/known"]
    assert shown == f"Left out, outcomes only to fit on or only to judge on: {MIDDLE}, {LARGE}\n"


def test_files_without_a_model_in_common_are_refused(tmp_path: Path) -> None:
    train, test = (outcomes(tmp_path / model, range(1, 60), [model]) for model in (SMALL, LARGE))
    test = outcomes(tmp_path / "test", range(100, 140), [LARGE])
    with pytest.raises(ArtifactError, match=f"no model has outcomes.*{SMALL}, {LARGE}"):
        judged(train, test)


def test_prompts_that_no_expert_was_run_on_count_nowhere(tmp_path: Path) -> None:
    train = outcomes(tmp_path / "train", range(1, 60), [SMALL, LARGE])
    test = outcomes(tmp_path / "test", range(100, 140), [SMALL, LARGE])
    test.write_text(test.read_text() + outcomes(tmp_path / "more", range(200, 240), ["un/known"]).read_text())
    result, _, _ = judged(train, test)
    assert result.test_prompts == 40
    (random,) = [system for system in result.systems if system.name == "random"]
    assert random.score == pytest.approx(
        np.mean([system.score for system in result.systems if system.kind == "single"])
    )


@pytest.mark.parametrize(("fit", "judge"), [(5, 5), (30, 0)])
def test_too_few_prompts_are_refused(fit: int, judge: int, tmp_path: Path) -> None:
    train = outcomes(tmp_path / "train", range(1, fit + 1), [SMALL, LARGE])
    # All of them are also among those to fit on, which loses them.
    test = outcomes(tmp_path / "test", range(100, 100 + judge), [SMALL, LARGE]) if judge else train
    with pytest.raises(ArtifactError, match="too few"):
        judged(train, test)
