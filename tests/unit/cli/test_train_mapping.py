"""`coe train mapping` as a user runs it who has outcomes and a router that were not made for each other."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from coe.cli import train
from coe.platform.errors import CoEError
from coe.router import artifact as artifacts
from unit.router import support

RUN = CliRunner()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COE_HOME", str(tmp_path))
    return tmp_path


def outcomes(home: Path, *categories: str) -> str:
    rows = (
        {"dataset": "d", "prompt_id": f"{n}", "prompt": f"{n}", "category": category, "scores": {"gemma-2-9b-it": 1}}
        for n in range(10)
        for category in categories
    )
    path = home / "outcomes.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def test_categories_that_the_router_does_not_have_are_named(home: Path) -> None:
    path = outcomes(home, "maths", "coding", "general")
    trained = RUN.invoke(train.app, ["mapping", "--outcomes", path, "--no-parts", "--json"])
    assert trained.exit_code == 0, trained.output
    assert trained.stderr.startswith("The router in use puts no prompt into maths, ")
    assert trained.stderr.count("\n") == 1


def test_categories_of_the_router_that_have_no_outcomes_are_named(home: Path) -> None:
    made = support.artifact("any")
    model = replace(made.model, categories=("gardening", *made.model.categories[1:]))
    artifacts.save(artifacts.trained(home), replace(made, model=model))
    trained = RUN.invoke(train.app, ["mapping", "--outcomes", outcomes(home, "general"), "--no-parts", "--json"])
    assert trained.exit_code == 0, trained.output
    assert trained.stderr == "Answered as general, for there are no outcomes of them: gardening\n"


def test_where_packages_are_missing_the_extra_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "coe.mapper.refiner_fit", None)
    path = outcomes(home, "math", "coding")
    with pytest.raises(CoEError, match=r"--no-parts does without.* needs the extra `train`"):
        RUN.invoke(train.app, ["mapping", "--outcomes", path], catch_exceptions=False)
    assert RUN.invoke(train.app, ["mapping", "--outcomes", path, "--no-parts"]).exit_code == 0


def test_a_folder_is_no_file_to_write(home: Path) -> None:
    """Said before anything is solved; nothing is left beside the folder."""
    folder = home / "mine"
    folder.mkdir()
    path = outcomes(home, "general")
    trained = RUN.invoke(train.app, ["mapping", "--outcomes", path, "--no-parts", "--out", str(folder)])
    assert (trained.exit_code, [entry.name for entry in home.iterdir() if "mine" in entry.name]) == (2, ["mine"])


def test_experts_that_were_run_on_few_of_the_prompts_are_named(home: Path) -> None:
    """On the easy ones alone, a small model looks better than a large one that was run on all."""
    path = Path(outcomes(home, "general", "math"))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    for row in rows[:8]:
        row["scores"]["google/gemma-2-27b-it"] = 1
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    trained = RUN.invoke(train.app, ["mapping", "--outcomes", str(path), "--no-parts", "--json"])
    assert trained.exit_code == 0, trained.output
    assert trained.stderr.startswith("Run on less than half of the prompts, ")
    assert trained.stderr.splitlines()[0].endswith(": google/gemma-2-27b-it")
