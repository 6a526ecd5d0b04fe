"""`coe train mapping`: solves, writes and shows a mapping."""

from pathlib import Path

from rich.table import Table

from coe.cli.console import out, print_json, say_left_out, short_progress
from coe.mapper.mapping import Mapping
from coe.mapper.refiner_file import FILE_NAME as REFINER
from coe.mapper.train import train_mapping


def train_and_write(
    outcomes: Path,
    experts: Path | None,
    path: Path,
    *,
    budget: float,
    economy: float,
    hosted: float | None,
    as_json: bool,
    parts: bool = True,
) -> None:
    """Raises ArtifactError for unusable files, InvalidPrompt when no expert fits a budget."""
    with short_progress() as bar:
        task = bar.add_task("Learning parts of categories", total=None)
        trained = train_mapping(
            outcomes,
            path.with_name(REFINER),
            experts_path=experts,
            balanced_b=budget,
            economy_b=economy,
            hosted_b=hosted,
            parts=parts,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    mapping, unknown = trained.mapping, trained.unknown
    partial = path.with_suffix(".partial")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial.write_text(trained.text, encoding="utf-8")
    partial.replace(path)
    say_left_out(unknown)
    if as_json:
        print_json(_summary(mapping, path))
        return
    out.print(_table(mapping))
    out.print(f"mapping {mapping.version} written to {path}")


def _summary(mapping: Mapping, path: Path) -> dict[str, object]:
    budgets = {
        name: {
            "expected_quality": plan.quality,
            "active_params_b": plan.active_params_b,
            "hosted_params_b": plan.hosted_params_b,
            "experts": plan.experts,
        }
        for name, plan in mapping.budgets.items()
    }
    return {"mapping": str(path), "version": mapping.version, "budgets": budgets}


def _table(mapping: Mapping) -> Table:
    table = Table("category", "share", "outcomes", *mapping.budgets)
    for cell in mapping.cells:
        experts = [_short(plan.experts[cell.name]) for plan in mapping.budgets.values()]
        support = f"({max(cell.support)} pooled)" if cell.pooled else str(max(cell.support))
        table.add_row(cell.name, f"{cell.share:.1%}", support, *experts)
    table.add_section()
    figures = [f"{plan.quality:.3f} at {plan.active_params_b:.1f} B" for plan in mapping.budgets.values()]
    table.add_row("expected", "", "", *figures)
    return table


def _short(name: str) -> str:
    return name.rpartition("/")[2]
