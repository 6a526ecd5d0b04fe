"""`coe train mapping`: solves, writes and prints a mapping."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from rich.table import Table

from coe.cli.console import out, print_json, say, say_left_out, short_progress, whole
from coe.cli.extras import train_extra
from coe.cli.router import serving
from coe.mapper.mapping import FALLBACK, Mapping
from coe.mapper.refiner_file import FILE_NAME as REFINER
from coe.mapper.train import train_mapping
from coe.platform.errors import ArtifactError
from coe.router import artifact as artifacts


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
    """Raises ArtifactError for unusable files, InvalidPrompt if no expert fits a budget."""
    with train_extra("learning parts of categories (--no-parts does without)"), short_progress() as bar:
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
    if trained.sparse:
        names = ", ".join(trained.sparse)
        say(f"Run on less than half of the prompts, so good only as far as these are like the others: {names}")
    for line in _unmatched(mapping):
        say(line)
    if as_json:
        print_json(_summary(mapping, path))
        return
    out.print(_table(mapping))
    out.print(f"mapping {mapping.version} written to {path}")


def _unmatched(mapping: Mapping) -> Iterator[str]:
    """Yields a message for categories that only the outcomes or only the router in use has."""
    with suppress(ArtifactError):  # a missing or unreadable artifact is reported by the router itself
        routed = set(artifacts.load(serving()).model.categories)
        solved = {cell.name for cell in mapping.cells if not cell.is_part and not cell.pooled}
        if never := solved - routed - {FALLBACK}:
            yield (
                f"The router in use puts no prompt into {', '.join(sorted(never))}, whose share the budgets count: "
                "coe train router --add-category NAME=FOLDER adds a category"
            )
        if other := routed - {cell.name for cell in mapping.cells}:
            yield f"Answered as {FALLBACK}, for there are no outcomes of them: {', '.join(sorted(other))}"


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
    table = Table(whole("category"), "share", "outcomes", *map(whole, mapping.budgets))
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
