"""Outcome files: what is read, and the clear refusal of what is not one."""

import json
from pathlib import Path

import numpy as np
import pytest

from coe.mapper.outcomes import read_outcomes
from coe.platform.errors import ArtifactError

ROW = {"dataset": "d", "prompt_id": "1", "prompt": "p", "category": "c", "scores": {"a": 1, "b": 0.5}}


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


def test_reads_rows_with_gaps_where_a_model_was_not_run(tmp_path: Path) -> None:
    path = write(tmp_path / "o.jsonl", ROW, {**ROW, "prompt_id": "2", "scores": {"b": 0}})
    outcomes = read_outcomes(path)
    assert outcomes.models == ("a", "b")
    np.testing.assert_array_equal(outcomes.scores, [[1, 0.5], [np.nan, 0]])


def test_other_models_become_gaps(tmp_path: Path) -> None:
    outcomes = read_outcomes(write(tmp_path / "o.jsonl", ROW)).of_models(["b", "z"])
    np.testing.assert_array_equal(outcomes.scores, [[0.5, np.nan]])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1], "JSON object"),
        ({**ROW, "prompt": 3}, "'prompt' must be a string"),
        ({**ROW, "category": ""}, "'category' must name one"),
        ({**ROW, "category": "/part"}, "'category' must name one"),
        ({**ROW, "scores": {}}, "at least one model"),
        ({**ROW, "scores": {"a": 1.5}}, "number from 0 to 1"),
        ({**ROW, "scores": {"a": True}}, "number from 0 to 1"),
        ({**ROW, "scores": {"a": "1"}}, "number from 0 to 1"),
        ({**ROW, "scores": {"a": None}}, "number from 0 to 1, not null"),
        ({**ROW, "scores": {"a": float("nan")}}, "number from 0 to 1, not NaN"),
    ],
)
def test_says_which_line_is_wrong(tmp_path: Path, row: object, message: str) -> None:
    with pytest.raises(ArtifactError, match=f"line 2: .*{message}"):
        read_outcomes(write(tmp_path / "o.jsonl", ROW, row))


def test_a_byte_order_mark_and_line_ends_of_windows_are_no_part_of_the_text(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    path.write_bytes("\r\n".join([json.dumps(ROW)] * 2).encode("utf-8-sig"))
    assert len(read_outcomes(path)) == 2


def test_text_in_another_encoding_is_refused_by_line(tmp_path: Path) -> None:
    """Taken as it is, parts would be learnt from letters that no prompt has."""
    path = tmp_path / "o.jsonl"
    second = json.dumps({**ROW, "prompt": "café"}, ensure_ascii=False).encode("latin-1")
    path.write_bytes(json.dumps(ROW).encode() + b"\n" + second)
    with pytest.raises(ArtifactError, match="line 2: 'utf-8' codec can't decode"):
        read_outcomes(path)


def test_refuses_what_is_not_json_lines(tmp_path: Path) -> None:
    path = tmp_path / "o.jsonl"
    path.write_text("{")
    with pytest.raises(ArtifactError, match="line 1"):
        read_outcomes(path)
    path.write_text("[" * 100_000)
    with pytest.raises(ArtifactError, match=r"line 1: .*recursion"):
        read_outcomes(path)
    path.write_text("\n")
    with pytest.raises(ArtifactError, match="empty"):
        read_outcomes(path)
    with pytest.raises(ArtifactError, match="no outcome file"):
        read_outcomes(tmp_path / "none.jsonl")
