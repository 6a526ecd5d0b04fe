"""Tables for the results of the native benchmarks."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from coe.bench.cases import IN_BYTES, OURS, PEERS

TITLES = {
    OURS: "coe",
    IN_BYTES: "coe 8 bits",
    "llama_cpp": "llama.cpp",
    "llama_cpp_q4_0": "llama.cpp Q4_0",
    "ort_genai": "ORT GenAI",
}


def decode_table(line: Mapping[str, Any]) -> Table:
    """Tokens per second of every case, and what each column computes with."""
    first = line["cases"][0]
    table = Table(
        title=f"{first['model']}, {first['threads']} threads, tokens/s", caption=_settings(line), caption_justify="left"
    )
    for name in ("phase", "tokens", "depth", "batch", *TITLES.values(), "ratio to the fastest", "with 8 bits"):
        table.add_column(name, justify="left" if name == "phase" else "right")
    for case in line["cases"]:
        rates = [case[f"{name}_tokens_s"] for name in (OURS, IN_BYTES, *PEERS)]
        shape = (case["phase"], case["prompt"] or "", case["depth"], case["batch"])
        table.add_row(
            *map(str, shape),
            *(_cell(rate, 1) for rate in rates),
            *(_cell(case[ratio], 2) for ratio in ("ratio", "ratio_8_bits")),
        )
    return table


def switch_table(line: Mapping[str, Any]) -> Table:
    """Milliseconds of each part, then the ratios."""
    table = Table(title="switching to an expert that is resident in DDR")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, taken in line["milliseconds"].items():
        table.add_row(f"{name}, ms", f"{taken:.2f}")
    table.add_section()
    for name in ("copy_bandwidth_share", "ttft_over_bound", "speedup_vs_session_build", "speedup_vs_llama_cpp_load"):
        table.add_row(name, _cell(line[name], 2))
    table.add_row("HBM bytes, used / budget", f"{line['max_hbm_bytes']:,} / {line['hbm_budget_bytes']:,}")
    return table


def profile_table(line: Mapping[str, Any]) -> Table:
    """Microseconds and share of a step, by op."""
    spent = line["microseconds"]
    total = sum(spent.values())
    shape = f"batch {line['batch']}, {line['tokens']} new tokens each, depth {line['depth']}, {line['threads']} threads"
    table = Table(title=f"a step of {line['model']}: {total:,.0f} µs", caption=shape)
    table.add_column("op")
    for name in ("nodes", "µs", "share"):
        table.add_column(name, justify="right")
    for op, taken in spent.items():
        table.add_row(op, str(line["nodes"].get(op, "")), f"{taken:,.1f}", f"{taken / total:.1%}")
    return table


def guesses_table(line: Mapping[str, Any]) -> Table:
    """Tokens per second with and without guesses, by task."""
    caption = f"medians of {line['rounds']} alternating rounds; at most {line['guesses']} guesses per step; "
    caption += "the same answers" if line["same"] else "answers differ"
    title = f"{line['model']}, {line['threads']} threads, tokens/s behind the first token"
    table = Table(title=title, caption=caption, caption_justify="left")
    for name in ("task", "tokens", "steps", "right / guessed", "guessing", "without", "ratio"):
        table.add_column(name, justify="left" if name == "task" else "right")
    for task in line["tasks"]:
        rates = (_cell(task["tokens_s"], 0), _cell(task["plain_tokens_s"], 0), _cell(task["ratio"], 2))
        right = f"{task['right']} / {task['guessed']}"
        table.add_row(task["task"], str(task["tokens"]), str(task["steps"]), right, *rates)
    return table


def steps_table(line: Mapping[str, Any]) -> Table:
    """Milliseconds of a step in each case, by library, and the files of the libraries."""
    libraries = [f"{name}: {line['settings'][name]}, {path}" for name, path in line["libraries"].items()]
    libraries.append(f"medians of {line['rounds']} rounds in turn, {line['steps']} decode steps in each")
    title = f"{line['model']}, {line['threads']} threads, ms per step"
    table = Table(title=title, caption="\n".join(libraries), caption_justify="left")
    for name in ("phase", "tokens", "depth", "batch", "this", "against", "this / against"):
        table.add_column(name, justify="left" if name == "phase" else "right")
    for case in line["cases"]:
        shape = (case["phase"], case["prompt"] or "", case["depth"], case["batch"])
        times = (case["step_ms"], case["against_step_ms"])
        table.add_row(*map(str, shape), *(_cell(taken, 3) for taken in times), _cell(case["ratio"], 2))
    return table


def _settings(line: Mapping[str, Any]) -> str:
    lines = []
    for name, setting in line["settings"].items():
        lines.append(f"{TITLES[name]}: " + " ".join(filter(None, (line["versions"].get(name), setting))))
    lines += [f"not measured: {name}: {reason}" for name, reason in line["missing"].items()]
    lines.append(f"weights read at batch 1: {line['bandwidth_share']:.2f} of {line['read_gb_s']:.1f} GB/s")
    return "\n".join(lines)


def _cell(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"
