"""Draws the plots of a report as SVG text."""

import io
import math
from collections.abc import Callable, Sequence

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from loadtest.recorder import Sample, switches
from loadtest.steps import Step
from loadtest.tiers import TierPoint

_MIB = 2**20
# Plots with more points are rasterised, as a page with tens of thousands of shapes opens slowly.
_MOST_SHAPES = 5000
_COLOURS = {"hbm": "#2a78d6", "ddr": "#eda100", "disk": "#e34948"}


def over_time(samples: Sequence[Sample], tiers: Sequence[TierPoint]) -> str:
    """Arrivals, latencies, where weights were found, and tier usage, on one time axis."""
    good = [sample for sample in samples if not sample.error and sample.done_s is not None]
    ends = [sample.at_s + (sample.done_s or 0.0) for sample in good]
    failed = [sample.at_s + (sample.done_s or 0.0) for sample in samples if sample.error]
    length = max([*ends, *failed, *(sample.at_s for sample in samples), 1.0])
    bins = max(1, min(120, int(length)))
    rows = [_rate(samples, ends, failed, length, bins), _latency(good)]
    if any(sample.found_in for sample in good):
        rows.append(_found(good, length, bins))
    if tiers:
        rows.append(_tiers(tiers))
    figure = Figure(figsize=(10, 2.6 * len(rows)), layout="constrained")
    found = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    for draw, axes in zip(rows, found, strict=True):
        draw(axes)
        _finish(axes)
    found[-1].set_xlabel("seconds")
    return _svg(figure)


def against_rate(found: Sequence[Step], saturated_at: float | None) -> str:
    """Answered rate and latency against the offered rate."""
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    rate, latency = figure.subplots(1, 2)
    offered = [step.offered for step in found]
    rate.plot(offered, offered, color="#bbb", lw=1, label="offered")
    rate.plot(offered, [step.answered for step in found], "o-", color="#2a78d6", label="answered")
    rate.set_ylabel("prompts/s")
    for name, point, style in (("p50", "p50", "o-"), ("p99", "p99", "s--")):
        # NaN leaves a gap where nothing was answered.
        latency.plot(
            offered, [_seconds(step.latency_ms.get(point)) for step in found], style, label=f"full answer, {name}"
        )
        if any(step.first_text_ms for step in found):
            first = [_seconds(step.first_text_ms.get(point)) for step in found]
            latency.plot(offered, first, style, label=f"first text, {name}")
    if any(step.latency_ms for step in found):
        latency.set_yscale("log")
    latency.set_ylabel("seconds after arrival")
    for axes in (rate, latency):
        axes.set_xlabel("offered, prompts/s")
        if saturated_at is not None:
            axes.axvline(saturated_at, color="#e34948", lw=1, ls=":", label="saturation")
        _finish(axes)
    return _svg(figure)


def _seconds(milliseconds: float | None) -> float:
    return math.nan if milliseconds is None else milliseconds / 1000


def _rate(
    samples: Sequence[Sample], ends: Sequence[float], failed: Sequence[float], length: float, bins: int
) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        span = (0.0, length)
        axes.hist([s.at_s for s in samples], bins=bins, range=span, histtype="step", color="#888", label="arrived")
        axes.hist(list(ends), bins=bins, range=span, histtype="step", color="#2a78d6", label="answered")
        if failed:
            axes.hist(list(failed), bins=bins, range=span, histtype="step", color="#e34948", label="failed")
        axes.set_ylabel(f"prompts in {length / bins:.1f} s")

    return draw


def _latency(good: Sequence[Sample]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        whole = [(s.at_s, s.done_s or 0.0) for s in good]
        first = [(s.at_s, s.first_text_s) for s in good if s.first_text_s is not None]
        for points, colour, label in ((whole, "#2a78d6", "full answer"), (first, "#1baf7a", "first text")):
            times, late = [at for at, _ in points], [seconds for _, seconds in points]
            axes.plot(times, late, ".", ms=3, color=colour, label=label, rasterized=len(points) > _MOST_SHAPES)
        axes.set_ylabel("seconds after arrival")

    return draw


def _found(good: Sequence[Sample], length: float, bins: int) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        names = sorted({sample.found_in for sample in good if sample.found_in}, reverse=True)
        times = [[sample.at_s for sample in good if sample.found_in == name] for name in names]
        colours = [_COLOURS.get(name, "#888") for name in names]
        axes.hist(times, bins=bins, range=(0, length), stacked=True, color=colours, label=names)
        if changed := switches(list(good)):
            axes.plot(changed, [0] * len(changed), "|", ms=10, color="#222", label="expert switch")
        axes.set_ylabel("prompts by tier of weights")

    return draw


def _tiers(points: Sequence[TierPoint]) -> Callable[[Axes], None]:
    def draw(axes: Axes) -> None:
        times = [point.at_s for point in points]
        for name in sorted({tier for point in points for tier, budget in point.capacity.items() if budget}):
            shares = [100 * point.used.get(name, 0) / max(1, point.capacity.get(name, 0)) for point in points]
            label = f"{name}, of {max(point.capacity.get(name, 0) for point in points) / _MIB:.0f} MiB"
            axes.step(times, shares, where="post", color=_COLOURS.get(name, "#888"), label=label)
        axes.set_ylabel("% of the tier in use")
        axes.set_ylim(0, 105)

    return draw


def _finish(axes: Axes) -> None:
    axes.grid(visible=True, color="#eee")
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper left", fontsize="small", frameon=False)


def _svg(figure: Figure) -> str:
    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "loadtest", "svg.fonttype": "none"}):
        figure.savefig(text, format="svg", dpi=150, metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]
