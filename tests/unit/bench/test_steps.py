"""The arithmetic of `coe bench steps`, and what people see of it."""

import io

import pytest
from rich.console import Console

from coe.bench.cases import Case
from coe.bench.steps import OTHER, THIS, cases_of, step
from coe.cli.bench_native_tables import steps_table
from coe.cli.main import main


def test_every_prompt_alone_and_every_batch_at_every_depth() -> None:
    assert cases_of([128], [1, 8], [0, 512]) == [
        Case("prefill", 128, 0, 1),
        Case("decode", 0, 0, 1),
        Case("decode", 0, 0, 8),
        Case("decode", 0, 512, 1),
        Case("decode", 0, 512, 8),
    ]


def test_a_prompt_is_one_step_and_a_decode_is_many() -> None:
    prompt = step(Case("prefill", 128, 0, 1), 64, {THIS: 0.06})
    decode = step(Case("decode", 0, 512, 8), 64, {THIS: 0.64})
    assert (prompt.step_ms, decode.step_ms) == (60.0, 10.0)
    assert (prompt.against_step_ms, prompt.ratio) == (None, None)


def test_the_ratio_is_this_builds_time_to_the_others() -> None:
    line = step(Case("decode", 0, 0, 1), 10, {THIS: 0.02, OTHER: 0.025})
    assert (line.step_ms, line.against_step_ms, line.ratio) == (2.0, 2.5, 0.8)


def test_the_table_says_which_files_were_in_turn() -> None:
    case = {"phase": "decode", "prompt": 0, "depth": 512, "batch": 8}
    line = {
        "model": "m",
        "threads": 2,
        "rounds": 5,
        "steps": 64,
        "cases": [case | {"step_ms": 2.0, "against_step_ms": 2.5, "ratio": 0.8}],
        "libraries": {THIS: "new.so", OTHER: "old.so"},
        "settings": {THIS: "KV f16", OTHER: "KV f16"},
    }
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(steps_table(line))
    shown = console.export_text()
    row = next(text for text in shown.splitlines() if "decode" in text and "│" in text)
    assert [cell.strip() for cell in row.strip("│").split("│")] == ["decode", "", "512", "8", "2.000", "2.500", "0.80"]
    assert "this: KV f16, new.so" in shown
    assert "against: KV f16, old.so" in shown
    assert "medians of 5 rounds in turn, 64 decode steps in each" in shown


@pytest.mark.parametrize("arguments", [("--batch", "two"), ("--batch", "0"), ("--prompt", "", "--batch", "")])
def test_what_can_not_be_measured_is_wrong_usage(arguments: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(("bench", "steps", *arguments))
    assert exit_.value.code == 2
