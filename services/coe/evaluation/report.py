"""Writes the report: a self-contained HTML page, and the plots as separate files."""

import base64
from pathlib import Path

from jinja2 import Environment, PackageLoader, select_autoescape

from coe.evaluation import plots
from coe.evaluation.evaluate import BUDGETS, Evaluation
from coe.evaluation.facts import budget_rows, findings, system_rows, table_rows
from coe.evaluation.summary import beside_singles, ranged


def write_report(evaluation: Evaluation, folder: Path, seed: int) -> Path:
    """Writes `report.html`, `frontier.{png,svg}` and `shares.{png,svg}`; returns the path of the page."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {
        "frontier": plots.frontier_figure(evaluation, seed),
        "shares": plots.shares_figure(evaluation),
    }
    for name, figure in pictures.items():
        plots.save(figure, folder, name)
    environment = Environment(loader=PackageLoader("coe.evaluation"), autoescape=select_autoescape(("html",)))
    page = environment.get_template("report.html").render(
        evaluation=evaluation,
        findings=findings(evaluation, seed),
        systems=system_rows(evaluation, seed),
        budgets=budget_rows(evaluation, seed),
        table=table_rows(evaluation),
        ranged=ranged,
        beside=beside_singles(evaluation),
        left_out=[name.rpartition("/")[2] for name in plots.left_out(evaluation)],
        limits=["unlimited" if budget is None else f"≤ {budget:g} B" for budget in BUDGETS],
        images={name: _inline(plots.render(figure, "svg")) for name, figure in pictures.items()},
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _inline(svg: bytes) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
