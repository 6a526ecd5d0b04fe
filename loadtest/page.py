"""One self-contained HTML report per run: plots as SVG, figures as tables."""

from collections.abc import Iterable, Sequence
from html import escape

from loadtest import plots
from loadtest.baseline import accepted
from loadtest.growth import COLUMNS, Growth
from loadtest.loadprofile import Bounds
from loadtest.recorder import Sample
from loadtest.report import CORES, VERSION, Result
from loadtest.steps import Step
from loadtest.tiers import TierPoint

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 62rem; padding: 0 1rem; color: #222 }
h1 { margin-bottom: 0 } h2 { margin-top: 2rem; font-size: 1.15rem } .about { color: #666; margin-top: .2rem }
.facts { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0 }
.facts div { border: 1px solid #ddd; border-radius: 6px; padding: .4rem .9rem }
.facts b { display: block; font-size: 1.3rem }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .2rem .8rem; border-bottom: 1px solid #ddd }
th { font-weight: 600; text-align: left } td + td, th + th { text-align: right; font-variant-numeric: tabular-nums }
.bad { color: #b00 } .good { color: #07703a } svg { max-width: 100%; height: auto }
"""


def render(
    result: Result, samples: Sequence[Sample], tiers: Sequence[TierPoint] = (), compared: dict[str, float] | None = None
) -> str:
    """`compared`: figures divided by those of the baseline."""
    title = f"Load test: {escape(result.profile.name)} over {escape(result.transport)}"
    found, saturated_at = result.steps, result.saturated_at
    parts = [
        f'<h1>{title}</h1><p class="about">{escape(result.profile.about)}</p>',
        f'<p class="about">{_origin(result)}</p>',
        _verdict(result),
        _facts(result, saturated_at),
        f"<p>{result.limit(saturated_at, CORES)}</p>" if saturated_at is not None else "",
        *(_steps(found, saturated_at) if len(found) > 1 else ()),
        "<h2>Over time</h2>",
        plots.over_time(samples, tiers),
        "<h2>Latency of answered prompts, in milliseconds after the scheduled arrival</h2>",
        _latencies(result),
        *(_cost(result) if result.cost else ()),
        *_growth(result.growth),
        *(_compared(compared, result.profile.bounds) if compared else ()),
        *(
            ("<h2>Errors</h2>", _table(("error", "prompts", "first message"), _errors(result)))
            if result.summary.errors
            else ()
        ),
        "<h2>Answers by expert</h2>",
        _table(("expert", "prompts"), _counts(result.summary.experts)),
        _table(("weights found in", "prompts"), _counts(result.summary.found_in)) if result.summary.found_in else "",
    ]
    body = "\n".join(parts)
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>{body}\n'


def _origin(result: Result) -> str:
    """Time of the run, version and number of cores."""
    began = f"{result.began:%Y-%m-%d %H:%M} UTC, " if result.began else ""
    return f"{began}composition-of-experts {escape(VERSION)}, {CORES} cores"


def _verdict(result: Result) -> str:
    note = f"<p>{escape(result.note)}</p>" if result.note else ""
    if not result.complaints:
        return '<p class="good">All bounds of the profile were met.</p>' + note
    return "".join(f'<p class="bad">{escape(complaint)}</p>' for complaint in result.complaints) + note


def _facts(result: Result, saturated_at: float | None) -> str:
    summary = result.summary
    first = summary.latency_ms.get("first_text", {})
    facts = {
        "answered": f"{summary.completed} of {summary.sent}",
        "prompts/s": f"{summary.throughput:.1f}",
        "tokens/s": f"{summary.tokens_per_s:.1f}",
        "first text, p50": f"{first['p50']:.0f} ms" if first else "-",
        "saturation": f"{saturated_at:.1f} prompts/s" if saturated_at is not None else "not reached",
        "expert switches": str(summary.switches) if summary.switches is not None else "-",
        "CPU per token": f"{result.cpu_ms_per_token:.1f} ms" if result.cpu_ms_per_token is not None else "-",
    }
    return (
        '<div class="facts">' + "".join(f"<div><b>{value}</b>{name}</div>" for name, value in facts.items()) + "</div>"
    )


def _steps(found: Sequence[Step], saturated_at: float | None) -> Iterable[str]:
    yield "<h2>Throughput against latency</h2>"
    yield plots.against_rate(sorted(found, key=lambda step: step.offered), saturated_at)
    rows = [
        (
            f"{step.offered:.1f}",
            f"{step.answered:.1f}",
            str(step.errors),
            *(_figure(step.latency_ms.get(point)) for point in ("p50", "p99")),
            *(_figure(step.first_text_ms.get(point)) for point in ("p50", "p99")),
        )
        for step in found
    ]
    yield _table(
        (
            "offered/s",
            "answered/s",
            "errors",
            "full answer p50 ms",
            "full answer p99 ms",
            "first text p50 ms",
            "first text p99 ms",
        ),
        rows,
    )


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def _latencies(result: Result) -> str:
    latencies = result.summary.latency_ms
    columns = result.summary.latency_columns
    rows = [(name, *(f"{values[column]:.1f}" for column in columns)) for name, values in latencies.items()]
    return _table(("", *columns), rows)


def _cost(result: Result) -> Iterable[str]:
    yield "<h2>Cost</h2>"
    rows = [(name, *(f"{value:.2f}" for value in use.values())) for name, use in sorted(result.cost.items())]
    yield _table(("process", "CPU ms per prompt", "memory MiB", "growth MiB"), rows)


def _growth(found: Sequence[Growth]) -> Iterable[str]:
    if found:
        yield "<h2>Growth from the first quarter to the last</h2>"
        yield _table(COLUMNS, (growth.row for growth in found))


def _compared(compared: dict[str, float], bounds: Bounds) -> Iterable[str]:
    yield "<h2>Compared with the baseline</h2><p>Adjusted for the machine's speed.</p>"
    rows = [(name, f"{ratio:.2f}", f"{accepted(name, bounds):g}") for name, ratio in compared.items()]
    yield _table(("", "ratio to baseline", "limit"), rows)


def _errors(result: Result) -> list[tuple[str, ...]]:
    counts, reasons = result.summary.errors, result.summary.reasons
    return [(code, str(count), reasons[code] or "-") for code, count in sorted(counts.items())]


def _counts(counts: dict[str, int]) -> list[tuple[str, ...]]:
    return [(name or "-", str(count)) for name, count in sorted(counts.items())]


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f"<table><tr>{header}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
