"""Traces of others: read in order of arrival, or refused with the line that is wrong."""

import json
from pathlib import Path

import pytest

from coe.platform.errors import InvalidPrompt
from coe.simulation.trace import Trace, read_trace

FINE = {"arrival_s": 1.5, "expert_id": "a", "prompt_tokens": 0, "output_tokens": 1}


def test_prompts_are_in_order_of_arrival(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    early = {"arrival_s": 0, "expert_id": "b", "prompt_tokens": 7, "output_tokens": 3}
    path.write_text(f"{json.dumps(FINE)}\n\n{json.dumps(early)}\n")
    assert read_trace(path) == Trace([0.0, 1.5], ["b", "a"], [7, 0], [3, 1])


@pytest.mark.parametrize(
    "line",
    [
        b"\xff" * 1000,
        b"[]",
        b'{"arrival_s": 1}',
        b"{",
        b"[" * 100_000,
        *(
            json.dumps(FINE | change).encode()
            for change in (
                {"arrival_s": -1},
                {"arrival_s": float("inf")},
                {"arrival_s": float("nan")},
                {"arrival_s": None},
                {"prompt_tokens": -1},
                {"output_tokens": 0},
                {"output_tokens": float("inf")},
                {"output_tokens": "many"},
            )
        ),
    ],
    ids=range(13),
)
def test_a_line_that_is_none_is_named(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(json.dumps(FINE).encode() + b"\n" + line + b"\n")
    with pytest.raises(InvalidPrompt, match=r"trace\.jsonl:2 is not a trace line") as refused:
        read_trace(path)
    assert len(refused.value.message) < 300


def test_a_trace_of_nothing_is_none(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("\n")
    with pytest.raises(InvalidPrompt, match="contains no prompts"):
        read_trace(path)
