"""`coe eval`: evaluates the router and the mapping on outcome data."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from coe.cli.console import err, out, print_json, say, say_left_out, short_progress
from coe.cli.extras import train_extra

app = typer.Typer(invoke_without_command=True)


@app.callback()
def evaluate(
    context: typer.Context,
    outcomes: Annotated[Path | None, typer.Option(help="One file: fit on one part, score on the rest.")] = None,
    train: Annotated[Path | None, typer.Option(help="Outcomes to fit on; requires --test.")] = None,
    test: Annotated[Path | None, typer.Option(help="Outcomes to score on; requires --train.")] = None,
    experts: Annotated[Path | None, typer.Option(help="YAML file with the models' parameter counts.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split, the folds and the bootstrap.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object (see docs/evaluation.md).")] = False,
    report: Annotated[
        Path | None, typer.Option(file_okay=False, writable=True, help="Folder for report.html and its plots.")
    ] = None,
) -> None:
    """Score the composition against every baseline, with its frontier over active-parameter budgets."""
    if context.invoked_subcommand is not None:
        return
    with train_extra("evaluation"):
        from coe.evaluation.report import write_report
        from coe.evaluation.run import evaluate_files
        from coe.evaluation.summary import as_json, closing_lines, systems_table
    if report is not None:
        report.mkdir(parents=True, exist_ok=True)
    with short_progress() as progress:
        result, unknown = evaluate_files(outcomes, train, test, experts=experts, seed=seed, progress=progress)
    say_left_out(unknown)
    if report is not None:
        path = write_report(result, report, seed)
        err.print(f"Report: {path}")
    if json:
        print_json(as_json(result, seed))
        return
    out.print(systems_table(result, seed))
    for line in closing_lines(result):
        out.print(line)


@app.command()
def transfer(
    outcomes: Annotated[Path, typer.Option(help="Outcomes from several sources, as JSON lines.")],
    by: Annotated[Literal["dataset", "category"], typer.Option(help="What counts as a source.")] = "dataset",
    experts: Annotated[Path | None, typer.Option(help="YAML file with the models' parameter counts.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the fit and the bootstrap.")] = 0,
    json: Annotated[bool, typer.Option("--json", help="One JSON object (see docs/evaluation.md).")] = False,
) -> None:
    """Score the composition on unseen sources: each is left out in turn, without a budget."""
    with train_extra("evaluation"):
        from coe.evaluation.run import transfer_file
        from coe.evaluation.summary import transfer_json, transfer_lines, transfer_table
    with short_progress() as progress:
        result, unknown = transfer_file(outcomes, by=by, experts=experts, seed=seed, progress=progress)
    say_left_out(unknown)
    if json:
        print_json(transfer_json(result))
        return
    out.print(transfer_table(result))
    for line in transfer_lines(result):
        out.print(line)


@app.command()
def router(
    test: Annotated[
        Path | None,
        typer.Option(help="JSON lines with `prompt` and `domain`. Default: show the artifact's validation results."),
    ] = None,
    artifact: Annotated[Path | None, typer.Option(help="A router artifact. Default: the one in use.")] = None,
    json: Annotated[bool, typer.Option("--json", help="One JSON object (see docs/evaluation.md).")] = False,
) -> None:
    """Score the router: accuracy, calibration, coverage, and out-of-distribution detection."""
    from coe.cli.router import serving, show
    from coe.router.classifier import open_classifier
    from coe.router.evaluate import evaluate as judge
    from coe.router.training.data import load

    classifier = open_classifier(artifact or serving(), threads=2)
    if test is None:
        figures = dict[str, object](classifier.artifact.figures)
    else:
        prompts = load(test, unlabelled=frozenset(), every_domain=True)
        if strange := {prompt.domain for prompt in prompts} - {*classifier.artifact.model.categories}:
            say(f"Domains without a category in the router, counted as out-of-domain: {', '.join(sorted(strange))}")
        with short_progress() as progress:
            task = progress.add_task("Classifying prompts", total=None)
            figures = judge(classifier, prompts, lambda done, total: progress.update(task, completed=done, total=total))
    show(figures, json)
