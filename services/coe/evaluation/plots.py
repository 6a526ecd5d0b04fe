"""Plots the frontier (score against average active parameters, with all baselines) and the shares of the experts."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure

from coe.evaluation.evaluate import Evaluation
from coe.evaluation.metrics import bootstrap
from coe.evaluation.systems import Kind, System

Form = Literal["png", "svg"]
FORMS: tuple[Form, ...] = ("png", "svg")
INK, MUTED, GRID = "#1b1f24", "#6b7280", "#e5e7eb"
# Kind, legend, colour, marker, line.
CURVES: tuple[tuple[Kind, str, str, str, str], ...] = (
    ("random", "random mixing of two experts", "#9ca3af", "", ":"),
    ("category", "category map", "#d97706", "s", "-."),
    ("knn", "nearest neighbours per prompt", "#7c3aed", "^", "--"),
    ("coe", "composition of experts", "#0f766e", "o", "-"),
)


def frontier_figure(evaluation: Evaluation, seed: int) -> Figure:
    """Single experts as points, families as curves, the composition with 95 % intervals, the oracle as a star."""
    figure = Figure(figsize=(9.5, 5.6), layout="constrained")
    axes = figure.add_subplot()
    for kind, label, colour, marker, line in CURVES:
        own_sizes = evaluation.beside if kind == "coe" else ()
        points = sorted([*_family(evaluation, kind), *own_sizes], key=lambda system: system.active_params_b)
        x, y = [point.active_params_b for point in points], [point.score for point in points]
        width = 2.4 if kind == "coe" else 1.4
        axes.plot(x, y, line, color=colour, marker=marker, label=label, linewidth=width, markersize=5)
        if kind == "coe":
            intervals = [bootstrap(point.scores, seed=seed) for point in points]
            low, high = [interval.low for interval in intervals], [interval.high for interval in intervals]
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0, label="its 95 % interval")
    floor = _floor(evaluation)
    singles = [system for system in evaluation.systems if system.kind == "single" and system.score >= floor]
    x, y = [single.active_params_b for single in singles], [single.score for single in singles]
    axes.plot(x, y, "D", color=INK, markersize=5, label="one expert for everything")
    for system in evaluation.systems:
        if system.kind == "oracle":
            axes.plot(system.active_params_b, system.score, "*", color="#b91c1c", markersize=13, label="oracle")
    axes.set_xlabel("average active parameters per prompt, billions")
    axes.set_ylabel("mean score on the test prompts")
    _plain(axes)
    _name_singles(axes, singles)
    figure.legend(frameon=False, fontsize=9, loc="outside lower center", ncols=3)
    return figure


def left_out(evaluation: Evaluation) -> list[str]:
    """Single experts so far below all curves that showing them would squash the plot."""
    return [s.name for s in evaluation.systems if s.kind == "single" and s.score < _floor(evaluation)]


def _floor(evaluation: Evaluation) -> float:
    """The lowest score shown for single experts: 1.5 times the curves' range below their lowest point."""
    scores = [system.score for kind, *_ in CURVES for system in _family(evaluation, kind)]
    return min(scores) - 1.5 * (max(scores) - min(scores))


def _name_singles(axes: Any, singles: Sequence[System]) -> None:
    """Labels the points on the side towards the middle of the plot. A label that would overlap another is left out."""
    low, high = axes.get_ylim()
    left, right = axes.get_xlim()
    line, letter = 0.035 * (high - low), 0.0075 * (right - left)
    # Left end, right end and height of points and labels already placed.
    taken = [(s.active_params_b - letter, s.active_params_b + letter, s.score) for s in singles]
    for system in sorted(singles, key=lambda single: -single.score):
        name, x = system.name.rpartition("/")[2], system.active_params_b
        to_left = x > (left + right) / 2
        reach = letter * (len(name) + 2)
        begin, end = (x - reach, x) if to_left else (x, x + reach)
        for height in (system.score - line, system.score + line):
            if any(begin < to and end > start and abs(height - at) < 0.9 * line for start, to, at in taken):
                continue
            taken.append((begin, end, height))
            axes.annotate(
                name,
                (x, height),
                (-8 if to_left else 8, 0),
                textcoords="offset points",
                ha="right" if to_left else "left",
                va="center",
                fontsize=8,
                color=MUTED,
            )
            break


def shares_figure(evaluation: Evaluation) -> Figure:
    """Shares of the expert sizes that the composition uses under each budget; unused sizes are omitted."""
    labels = [_budget(point) for point in evaluation.frontier]
    shares = {
        size: [float((point.active == size).mean()) for point in evaluation.frontier]
        for size in sorted({expert.active_params_b for expert in evaluation.pool})
    }
    used = [size for size, parts in shares.items() if any(parts)]
    figure = Figure(figsize=(9.5, max(0.7 + 0.55 * len(labels), 0.3 + 0.2 * len(used))), layout="constrained")
    axes = figure.add_subplot()
    colours = mpl.colormaps["viridis"]
    left = [0.0] * len(labels)
    for index, size in enumerate(used):
        names = [expert.name.rpartition("/")[2] for expert in evaluation.pool if expert.active_params_b == size]
        label = f"{size:g} B, {names[0] if len(names) == 1 else f'{len(names)} experts'}"
        colour = colours(index / max(1, len(used) - 1))
        axes.barh(labels, shares[size], left=left, color=colour, edgecolor="white", linewidth=0.8, label=label)
        left = [total + share for total, share in zip(left, shares[size], strict=True)]
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the test prompts by the size of the expert that answers")
    _plain(axes)
    figure.legend(frameon=False, fontsize=8, loc="outside right upper")
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """Saves a figure as PNG and SVG."""
    for form in FORMS:
        (folder / f"{name}.{form}").write_bytes(render(figure, form))


def render(figure: Figure, form: Form) -> bytes:
    """The figure as a file's bytes: the same for the same figure."""
    buffer = BytesIO()
    metadata: dict[str, Any] = {"Date": None} if form == "svg" else {"Software": None}
    with mpl.rc_context({"svg.hashsalt": "coe", "svg.fonttype": "none"}):
        figure.savefig(buffer, format=form, dpi=160, metadata=metadata)
    return buffer.getvalue()


def _family(evaluation: Evaluation, kind: Kind) -> list[System]:
    return [system for system in evaluation.systems if system.kind == kind and system.name != "random"]


def _budget(point: System) -> str:
    return "unlimited" if point.budget_b is None else f"≤ {point.budget_b:g} B"


def _plain(axes: Any) -> None:
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors=MUTED)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
