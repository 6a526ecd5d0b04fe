"""The frontier as a picture: score against average active parameters, with every baseline."""

from io import BytesIO
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
from matplotlib.figure import Figure

from coe.evaluation.evaluate import Evaluation
from coe.evaluation.metrics import bootstrap
from coe.evaluation.systems import Kind, System

INK, MUTED, GRID = "#1b1f24", "#6b7280", "#e5e7eb"
# Kind, legend, colour, marker, line.
CURVES: tuple[tuple[Kind, str, str, str, str], ...] = (
    ("random", "random mixing of two experts", "#9ca3af", "", ":"),
    ("category", "category map", "#d97706", "s", "-."),
    ("knn", "nearest neighbours per prompt", "#7c3aed", "^", "--"),
    ("coe", "composition of experts", "#0f766e", "o", "-"),
)


def frontier_figure(evaluation: Evaluation, seed: int) -> Figure:
    """Singles as labelled points, families as curves, the composition with its 95 % intervals, the oracle as a star."""
    figure = Figure(figsize=(9.5, 5.6), layout="constrained")
    axes = figure.add_subplot()
    for kind, label, colour, marker, line in CURVES:
        points = sorted(_family(evaluation, kind), key=lambda system: system.active_params_b)
        x, y = [point.active_params_b for point in points], [point.score for point in points]
        width = 2.4 if kind == "coe" else 1.4
        axes.plot(x, y, line, color=colour, marker=marker, label=label, linewidth=width, markersize=5)
        if kind == "coe":
            intervals = [bootstrap(point.scores, seed=seed) for point in points]
            low, high = [interval.low for interval in intervals], [interval.high for interval in intervals]
            axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    for system in evaluation.systems:
        if system.kind == "single":
            axes.plot(system.active_params_b, system.score, "D", color=INK, markersize=5)
            name = system.name.rpartition("/")[2]
            axes.annotate(
                name,
                (system.active_params_b, system.score),
                (6, -11),
                textcoords="offset points",
                fontsize=8,
                color=MUTED,
            )
        elif system.kind == "oracle":
            axes.plot(system.active_params_b, system.score, "*", color="#b91c1c", markersize=13, label="oracle")
    axes.set_xlabel("average active parameters a prompt, billions")
    axes.set_ylabel("mean score on the test prompts")
    _plain(axes)
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def shares_figure(evaluation: Evaluation) -> Figure:
    """Which experts the composition uses under each budget."""
    figure = Figure(figsize=(9.5, 0.7 + 0.55 * len(evaluation.frontier)), layout="constrained")
    axes = figure.add_subplot()
    colours = mpl.colormaps["viridis"]
    ordered = sorted(evaluation.pool, key=lambda expert: expert.active_params_b)
    labels = [_budget(point) for point in evaluation.frontier]
    left = [0.0] * len(labels)
    for index, expert in enumerate(ordered):
        shares = [float((point.active == expert.active_params_b).mean()) for point in evaluation.frontier]
        same = sum(other.active_params_b == expert.active_params_b for other in ordered)
        if same > 1 and any(other.active_params_b == expert.active_params_b for other in ordered[:index]):
            continue
        label = f"{expert.active_params_b:g} B" + (f" ({same} experts)" if same > 1 else "")
        axes.barh(labels, shares, left=left, color=colours(index / max(1, len(ordered) - 1)), label=label)
        left = [total + share for total, share in zip(left, shares, strict=True)]
    axes.set_xlabel("share of the test prompts by the size of the expert that answers")
    _plain(axes)
    axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    """As PNG and SVG."""
    for form in ("png", "svg"):
        (folder / f"{name}.{form}").write_bytes(render(figure, "png" if form == "png" else "svg"))


def render(figure: Figure, form: Literal["png", "svg"]) -> bytes:
    """The same bytes for the same figure."""
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
