"""One HTML page a run, everything inside it: plots as SVG, figures as tables."""

import io
from html import escape

import matplotlib as mpl
from matplotlib.figure import Figure

from loadtest.recorder import Sample
from loadtest.report import Result

_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .2rem .8rem; border-bottom: 1px solid #ddd }
td + td, th + th { text-align: right } .bad { color: #b00 } svg { max-width: 100%; height: auto }
"""


def render(result: Result, samples: list[Sample]) -> str:
    summary = result.summary
    parts = [
        f"<h1>Load test: {escape(result.profile.name)} over {escape(result.transport)}</h1>",
        f"<p>{escape(result.profile.about)}</p>",
        _table(
            ("prompts sent", "completed", "prompts/s", "tokens/s"),
            [
                (
                    str(summary.sent),
                    str(summary.completed),
                    f"{summary.throughput:.1f}",
                    f"{summary.tokens_per_s:.1f}",
                )
            ],
        ),
        *(f'<p class="bad">{escape(complaint)}</p>' for complaint in result.complaints),
        "<h2>Latency, milliseconds after the scheduled arrival</h2>",
        _latencies(result),
        _plots(samples),
        "<h2>Cost</h2>",
        _cost(result),
        "<h2>Who answered</h2>",
        _table(("expert", "prompts"), [(name or "-", str(count)) for name, count in sorted(summary.experts.items())]),
        _table(("weights found in", "prompts"), [(name, str(n)) for name, n in sorted(summary.found_in.items())]),
    ]
    body = "\n".join(parts)
    title = f"Load test {escape(result.profile.name)}"
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>{body}\n'


def _latencies(result: Result) -> str:
    latencies = result.summary.latency_ms
    columns = list(latencies.get("total", {}))
    rows = [(name, *(f"{values[column]:.1f}" for column in columns)) for name, values in latencies.items()]
    return _table(("", *columns), rows)


def _cost(result: Result) -> str:
    rows = [(name, *(f"{value:.2f}" for value in use.values())) for name, use in sorted(result.cost.items())]
    return _table(("process", "CPU ms a prompt", "memory MiB", "grown MiB"), rows)


def _plots(samples: list[Sample]) -> str:
    """Throughput and latencies over time, and where the time of a prompt goes."""
    mpl.rcParams["svg.hashsalt"] = "loadtest"
    figure = Figure(figsize=(10, 9), layout="constrained")
    rate, latency, found = figure.subplots(3, 1, sharex=True)
    good = [sample for sample in samples if not sample.error and sample.done_s is not None]
    ends = [sample.at_s + (sample.done_s or 0.0) for sample in good]
    length = max([*ends, 1.0])
    bins = max(1, min(120, int(length)))
    rate.hist([sample.at_s for sample in samples], bins=bins, range=(0, length), histtype="step", label="arrived")
    rate.hist(ends, bins=bins, range=(0, length), histtype="step", label="completed")
    rate.set_ylabel(f"prompts in {length / bins:.1f} s")
    latency.plot([s.at_s for s in good], [s.done_s or 0.0 for s in good], ".", ms=3, label="completed")
    first = [(s.at_s, s.first_text_s) for s in good if s.first_text_s is not None]
    latency.plot([at for at, _ in first], [value for _, value in first], ".", ms=3, label="first text")
    latency.set_ylabel("seconds after arrival")
    tiers = sorted({sample.found_in for sample in good if sample.found_in})
    if tiers:
        times = [[sample.at_s for sample in good if sample.found_in == tier] for tier in tiers]
        found.hist(times, bins=bins, range=(0, length), stacked=True, label=tiers)
    found.set_ylabel("weights found in")
    found.set_xlabel("seconds")
    for axes in (rate, latency, found):
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="upper right")
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    header = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    return f"<table><tr>{header}</tr>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
