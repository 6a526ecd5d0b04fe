"""`coe train`: creates the artifacts that router and mapper use."""

from pathlib import Path
from typing import Annotated

import typer

from coe.platform.errors import CoEError
from coe.platform.settings import CoreSettings

app = typer.Typer(no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object.")]


@app.callback()
def train() -> None:
    """Train the router or solve the mapping."""


@app.command()
def router(
    data: Annotated[
        Path | None, typer.Option(help="Labelled prompts, as JSON lines with `prompt`, `domain`, `source`, `language`.")
    ] = None,
    others: Annotated[
        list[Path] | None, typer.Option(help="Additional outcome data whose prompts to learn from; may be repeated.")
    ] = None,
    add_category: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FOLDER", help="Instead, add a category to the artifact in use; may be repeated."),
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", file_okay=False, help="Output folder. Default: in COE_HOME.")
    ] = None,
    encoder: Annotated[Path | None, typer.Option(help="Folder of an ONNX encoder.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same artifact.")] = 0,
    json: AsJson = False,
) -> None:
    """Train the router, or add a category to it, and print validation results."""
    from coe.cli import router as command
    from coe.router import artifact as artifacts

    path = artifacts.trained(CoreSettings().home) if out_dir is None else out_dir / artifacts.FILE_NAME
    if add_category:
        if data is not None:
            raise CoEError("give either --data or --add-category")
        command.add_categories(add_category, command.serving(), path, encoder=encoder, seed=seed, as_json=json)
    elif data is not None:
        command.train_router(data, others or [], path, encoder=encoder, seed=seed, as_json=json)
    else:
        raise CoEError("give --data with labelled prompts, or --add-category NAME=FOLDER")


@app.command()
def mapping(
    outcomes: Annotated[Path, typer.Option(help="Each model's score on each prompt, as JSON lines.")],
    budget: Annotated[
        float, typer.Option(help="Average active parameters of the `balanced` budget, in billions.")
    ] = 31.0,
    economy: Annotated[
        float, typer.Option(help="Average active parameters of the `economy` budget, in billions.")
    ] = 15.0,
    hosted: Annotated[
        float | None, typer.Option(help="Limit on the total parameters of the hosted experts, in billions.")
    ] = None,
    experts: Annotated[Path | None, typer.Option(help="YAML file with the models' parameter counts.")] = None,
    parts: Annotated[bool, typer.Option(help="Learn sub-categories (requires the extra `train`).")] = True,
    out_path: Annotated[
        Path | None, typer.Option("--out", dir_okay=False, help="Output file. Default: in COE_HOME.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Solve the mapping of categories to experts under parameter budgets."""
    from coe.cli.mapping import train_and_write

    path = out_path or CoreSettings().home / "artifacts" / "mapping.yaml"
    train_and_write(outcomes, experts, path, budget=budget, economy=economy, hosted=hosted, parts=parts, as_json=json)
