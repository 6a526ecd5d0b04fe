"""What people see of the native benchmarks."""

import io
from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from coe.bench.cases import CASES, IN_BYTES, OURS, figure
from coe.bench.switch import figures
from coe.cli.bench_native_tables import decode_table, guesses_table, profile_table, switch_table


def text(table: Table) -> str:
    console = Console(width=160, file=io.StringIO(), record=True)
    console.print(table)
    return console.export_text()


def test_the_decode_table_says_what_each_column_computes_with() -> None:
    seconds = {OURS: 1.0, IN_BYTES: 0.5, "llama_cpp": 2.0}
    shown = text(
        decode_table(
            {
                "cases": [asdict(figure("smollm2-135m", 2, case, 64, seconds)) for case in CASES],
                "bandwidth_share": 0.81,
                "read_gb_s": 39.0,
                "versions": {"llama_cpp": "llama-cpp-python 1"},
                "settings": {OURS: "weights as in the file", "llama_cpp": "KV f16"},
                "missing": {"ort_genai": "no such model"},
            }
        )
    )
    assert "smollm2-135m, 2 threads" in shown
    assert "coe: weights as in the file" in shown
    assert "llama.cpp: llama-cpp-python 1 KV f16" in shown
    assert "not measured: ort_genai: no such model" in shown
    row = next(line for line in shown.splitlines() if "prefill" in line)
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells == ["prefill", "128", "0", "1", "128.0", "256.0", "64.0", "-", "-", "2.00", "4.00"]


def test_the_switch_table_leaves_open_what_was_not_measured() -> None:
    seconds = {"memcpy": 0.0045, "copy": 0.005, "prefill": 0.004, "first_token": 0.006}
    milliseconds = {name: taken * 1e3 for name, taken in seconds.items()}
    line = {"milliseconds": milliseconds, "max_hbm_bytes": 1, "hbm_budget_bytes": 2, **figures(seconds)}
    shown = text(switch_table(line))
    assert "copy_bandwidth_share" in shown
    assert next(line for line in shown.splitlines() if "session_build" in line).rstrip("│ ").endswith("-")


def test_the_table_of_guesses_says_how_many_were_right_and_whether_answers_differ() -> None:
    task = {"task": "quote", "tokens": 159, "steps": 50, "guessed": 121, "right": 109}
    line = {"model": "m", "threads": 2, "rounds": 5, "guesses": 3, "same": False}
    shown = text(guesses_table(line | {"tasks": [task | {"tokens_s": 440.0, "plain_tokens_s": 200.0, "ratio": 2.2}]}))
    assert "answers differ" in " ".join(shown.split())
    row = next(line for line in shown.splitlines() if "quote" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "quote",
        "159",
        "50",
        "109 / 121",
        "440",
        "200",
        "2.20",
    ]


def test_the_profile_table_has_shares() -> None:
    line = {"microseconds": {"TieredLinear down": 75.0, "between nodes": 25.0}, "nodes": {"TieredLinear down": 30}}
    shown = text(profile_table(line | {"model": "m", "batch": 1, "tokens": 1, "depth": 0, "threads": 2}))
    assert "a step of m: 100 µs" in shown
    assert "75.0%" in shown
