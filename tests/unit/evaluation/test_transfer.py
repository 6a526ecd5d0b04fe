"""Leaving sources out: nothing of a source is seen before it is judged."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from coe.cli.eval import app
from coe.evaluation.summary import transfer_json, transfer_lines, transfer_table
from coe.evaluation.transfer import Transfer, judge_transfer
from coe.mapper.outcomes import Outcomes
from coe.platform.errors import ArtifactError

PROMPTS = 600
SOURCES = ("a", "b", "c")


@pytest.fixture(scope="module")
def transfer() -> Transfer:
    """Three sources with the same two categories: one expert can do maths, the other writes."""
    random = np.random.default_rng(0)
    math = random.random(PROMPTS) < 0.6
    scores = (random.random((PROMPTS, 2)) < np.where(math[:, None], [[0.9, 0.4]], [[0.3, 0.8]])).astype(float)
    texts = tuple(f"{'add the numbers' if value else 'write a poem'} {row}" for row, value in enumerate(math))
    embeddings = random.normal(size=(PROMPTS, 8)) * 0.1
    embeddings[:, 0] = np.where(math, 1.0, -1.0)
    sources = tuple(SOURCES[row % 3] for row in range(PROMPTS))
    categories = tuple("math" if value else "writing" for value in math)
    outcomes = Outcomes(("reckoner", "writer"), sources, texts, texts, categories, scores)
    unit = (embeddings / np.linalg.norm(embeddings, axis=1, keepdims=True)).astype(np.float32)
    return judge_transfer(outcomes, unit, np.array([7.0, 9.0]), sources)


def test_what_holds_elsewhere_is_found_on_a_source_never_seen(transfer: Transfer) -> None:
    assert [row.source for row in transfer.rows] == list(SOURCES)
    assert transfer.best_single == "reckoner"
    assert transfer.plain_gain.low > 0.05
    assert transfer.refined_gain.low > 0.05


def test_it_can_be_written_and_read(transfer: Transfer) -> None:
    data = json.loads(json.dumps(transfer_json(transfer), allow_nan=False))
    assert data["coe_gain"]["ci"][0] <= data["coe_gain"]["mean"] <= data["coe_gain"]["ci"][1]
    assert len(data["sources"]) == transfer_table(transfer).row_count == 3
    assert len(transfer_lines(transfer)) == 3


@pytest.mark.parametrize("by", ["dataset", "category"])
def test_the_command_refuses_a_file_of_one_source(tmp_path: Path, by: str) -> None:
    row = {"dataset": "d", "prompt_id": "1", "prompt": "p", "category": "c", "scores": {"gemma-2-9b-it": 1}}
    path = tmp_path / "outcomes.jsonl"
    path.write_text(f"{json.dumps(row)}\n{json.dumps(row | {'prompt_id': '2'})}\n")
    result = CliRunner().invoke(app, ["transfer", "--outcomes", str(path), "--by", by])
    assert isinstance(result.exception, ArtifactError)
    assert by in str(result.exception)


def test_an_expert_that_no_other_source_knows_is_not_the_best_of_them() -> None:
    random = np.random.default_rng(0)
    sources = tuple(SOURCES[row % 3] for row in range(150))
    scores = (random.random((150, 2)) < [[0.3, 0.9]]).astype(float)
    scores[[source != "a" for source in sources], 1] = np.nan
    texts = tuple(f"add {number}" for number in range(150))
    outcomes = Outcomes(("everywhere", "only in a"), sources, texts, texts, ("math",) * 150, scores)
    unit = np.ones((150, 1), np.float32)
    found = judge_transfer(outcomes, unit, np.array([7.0, 70.0]), sources)
    assert [row.single for row in found.rows] == ["everywhere", "only in a", "only in a"]
    rows = json.loads(json.dumps(transfer_json(found), allow_nan=False))["sources"]
    assert [row["single_score"] is None for row in rows] == [False, True, True]
