"""Formats an evaluation as JSON and as tables and lines for the terminal."""

from dataclasses import asdict
from math import isnan

from rich.table import Column, Table

from coe.evaluation.evaluate import Evaluation
from coe.evaluation.metrics import Interval, bootstrap, paired_bootstrap
from coe.evaluation.systems import System
from coe.evaluation.transfer import Transfer

DIGITS = 4


def as_json(evaluation: Evaluation, seed: int) -> dict[str, object]:
    """The JSON format of docs/evaluation.md. A `budget_b` of null is unlimited; `ci` is the 95 % bootstrap interval.

    Undefined figures are null.
    """
    return {
        "dataset": evaluation.dataset,
        "systems": [
            {"name": system.name, "kind": system.kind, **_figures(system, seed)} for system in evaluation.systems
        ],
        "frontier": [{"budget_b": point.budget_b, **_figures(point, seed)} for point in evaluation.frontier],
        "area": _figure(evaluation.area["coe"].mean),
        "apgr": _figure(evaluation.pair.figures.apgr),
    }


def _figures(system: System, seed: int) -> dict[str, object]:
    interval = bootstrap(system.scores, seed=seed)
    return {
        "score": _figure(interval.mean),
        "ci": [_figure(interval.low), _figure(interval.high)],
        "avg_active_params_b": round(system.active_params_b, 3),
    }


def _figure(value: float) -> float | None:
    return None if isnan(value) else round(value, DIGITS)


def systems_table(evaluation: Evaluation, seed: int) -> Table:
    """A table of all systems, grouped by kind, with intervals and costs."""
    title = f"{evaluation.dataset}: fitted on {evaluation.train_prompts} prompts, scored on {evaluation.test_prompts}"
    name = Column("system", overflow="fold")
    table = Table(name, "score", "95 % interval", "avg active B", "prompts scored", title=title)
    kind = ""
    for system in evaluation.systems:
        if kind and system.kind != kind:
            table.add_section()
        kind = system.kind
        interval = bootstrap(system.scores, seed=seed)
        table.add_row(
            system.name,
            f"{interval.mean:.4f}",
            f"{interval.low:.4f} to {interval.high:.4f}",
            f"{system.active_params_b:.2f}",
            f"{system.coverage:.1%}",
        )
    return table


def closing_lines(evaluation: Evaluation) -> list[str]:
    """Lines on the areas, the weak and strong pair, the map of each budget, and the gains over single experts."""
    pair = evaluation.pair
    areas = ", ".join(
        f"{name} {area.mean:.4f} ({area.low:.3f} to {area.high:.3f})" for name, area in evaluation.area.items()
    )
    level_of = evaluation.composition.level_of
    levels = ", ".join(
        f"{'unlimited' if point.budget_b is None else f'{point.budget_b:g} B'}: {level_of[point.budget_b]}"
        for point in evaluation.frontier
    )
    return [
        f"area under score against average active parameters: {areas}",
        f"{pair.weak} against {pair.strong}: APGR {ranged(pair.apgr)}, CPT(50 %) {ranged(pair.cpt_50)}, "
        f"CPT(80 %) {ranged(pair.cpt_80)}",
        f"map chosen by cross-validation on the training part: {levels}",
        f"over the best single expert at its own size: {beside_singles(evaluation)}",
    ]


def beside_singles(evaluation: Evaluation) -> str:
    """The composition's gain at the same size over each expert that no smaller one surpasses."""
    gains = []
    for plan in evaluation.beside:
        names = [expert.name for expert in evaluation.pool if expert.active_params_b == plan.budget_b]
        same = [system for system in evaluation.systems if system.kind == "single" and system.name in names]
        single = max(same, key=lambda system: system.score)
        gain = paired_bootstrap(plan.scores, single.scores)
        name = f"{single.name.rpartition('/')[2]} ({plan.budget_b:g} B)"
        gains.append(f"{name} {gain.mean:+.3f} ({gain.low:+.3f} to {gain.high:+.3f})")
    return ", ".join(gains) or "no plan fits"


def transfer_json(transfer: Transfer) -> dict[str, object]:
    """The JSON format of docs/evaluation.md."""

    def figures(interval: Interval) -> dict[str, object]:
        return {"mean": _figure(interval.mean), "ci": [_figure(interval.low), _figure(interval.high)]}

    return {
        "sources": [
            {name: _figure(value) if isinstance(value, float) else value for name, value in asdict(row).items()}
            for row in transfer.rows
        ],
        "best_single": transfer.best_single,
        "single": figures(transfer.single),
        "category": figures(transfer.plain),
        "coe": figures(transfer.refined),
        "category_gain": figures(transfer.plain_gain),
        "coe_gain": figures(transfer.refined_gain),
    }


def transfer_table(transfer: Transfer) -> Table:
    source, single = (Column(name, overflow="fold") for name in ("left out", "best single elsewhere"))
    table = Table(source, "prompts", single, "its score", "category map", "CoE")
    for row in transfer.rows:
        scores = [f"{score:.4f}" for score in (row.single_score, row.plain, row.refined)]
        table.add_row(row.source, str(row.prompts), row.single, *scores)
    return table


def transfer_lines(transfer: Transfer) -> list[str]:
    return [
        f"best single over all, {transfer.best_single}: {ranged(transfer.single)}",
        f"category map {ranged(transfer.plain)}, over it {ranged(transfer.plain_gain)}",
        f"composition {ranged(transfer.refined)}, over it {ranged(transfer.refined_gain)}",
    ]


def ranged(interval: Interval) -> str:
    if isnan(interval.mean):
        return "undefined"
    return f"{interval.mean:.3f} ({interval.low:.3f} to {interval.high:.3f})"
