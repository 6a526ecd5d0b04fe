"""`coe train`: makes the artifacts that router and mapper serve with."""

from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress

from coe.cli.console import err, out, print_json
from coe.encoder import EncoderSpec, open_encoder
from coe.platform.errors import CoEError
from coe.platform.settings import CoreSettings
from coe.router import artifact as artifacts

app = typer.Typer(no_args_is_help=True)

# Tokens the router looks at: the start says what is asked, the end often repeats it. In int8 this takes about 7 ms.
WINDOW, TAIL = 36, 10


@app.callback()
def train() -> None:
    """Train the router or solve the mapping."""


@app.command()
def router(
    data: Annotated[Path, typer.Option(help="Labelled prompts, JSON lines with `prompt`, `domain`, `source`.")],
    out_dir: Annotated[Path | None, typer.Option("--out", help="Folder for the artifact. Default: COE_HOME.")] = None,
    seed: int = 0,
    encoder: Annotated[Path | None, typer.Option(help="Folder with an ONNX encoder.")] = None,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Train the router: embeddings, a linear head, neighbours, calibration. Prints the validation figures."""
    try:
        from coe.router.training.build import build
        from coe.router.training.data import load
    except ModuleNotFoundError as error:
        raise CoEError(f"training needs the extra `train` ({error.name} is missing)") from error
    prompts = load(data)
    opened = open_encoder(EncoderSpec(encoder, WINDOW, TAIL, int8=True, threads=2))
    with Progress(console=err, transient=True) as bar:
        task = bar.add_task("Encoding prompts", total=None)
        trained = build(
            prompts,
            opened,
            seed=seed,
            int8=True,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    path = artifacts.trained(CoreSettings().home) if out_dir is None else out_dir / artifacts.FILE_NAME
    artifacts.save(path, trained)
    summary = {"artifact": str(path), "version": trained.version, "bytes": path.stat().st_size, **trained.figures}
    if json:
        print_json(summary)
    else:
        for name, value in summary.items():
            out.print(f"{name:20} {value}")


@app.command()
def mapping(
    outcomes: Annotated[Path, typer.Option(help="What each model scored on each prompt, JSON lines.")],
    budget: Annotated[float, typer.Option(help="Average active parameters of `balanced`, billions.")] = 31.0,
    economy: Annotated[float, typer.Option(help="Average active parameters of `economy`, billions.")] = 15.0,
    hosted: Annotated[float | None, typer.Option(help="Most total parameters hosted, billions.")] = None,
    experts: Annotated[Path | None, typer.Option(help="Parameters of the models, YAML.")] = None,
    out_path: Annotated[Path | None, typer.Option("--out", help="Where to write. Default: COE_HOME.")] = None,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    """Solve the mapping of categories to experts under budgets of parameters."""
    from coe.cli.mapping import train_and_write

    path = out_path or CoreSettings().home / "artifacts" / "mapping.yaml"
    train_and_write(outcomes, experts, path, budget=budget, economy=economy, hosted=hosted, as_json=json)
