"""`coe experts`: manages the expert bundles on this machine."""

import sys
from typing import Annotated

import typer

from coe.cli.catalogue import catalogue, find_expert, summary
from coe.cli.console import out, print_json, say
from coe.cli.experts_bindings import bindings
from coe.cli.experts_plan import plan
from coe.experts.bundle import Bundle
from coe.experts.left_out import left_out
from coe.platform.errors import ArtifactError, ChecksumMismatch
from coe.platform.settings import CoreSettings

app = typer.Typer(no_args_is_help=True)
app.command()(plan)
app.command()(bindings)

ExpertId = Annotated[str, typer.Argument(help="Expert id.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]


@app.command("list")
def list_(as_json: AsJson = False) -> None:
    """List the experts hosted here."""
    bundles, others = catalogue().look()
    for bundle in bundles:
        _print(bundle, as_json)
    for one in others:
        say(str(one))
    if not bundles:
        _say_none()


@app.command()
def show(expert_id: ExpertId) -> None:
    """Print an expert's manifest as JSON, without the tensor table."""
    bundle = find_expert(expert_id)
    facts = bundle.manifest.model_dump(mode="json", exclude={"tensors", "checksums"})
    print_json({**facts, "layout_key": bundle.layout_key, "path": str(bundle.path)})


@app.command()
def verify(
    expert_id: Annotated[str, typer.Argument(help="Id of the expert. Default: all experts.")] = "",
    as_json: AsJson = False,
) -> None:
    """Read whole bundles and compare them with their checksums.

    Exits with status 1 if one is damaged, and prints the command that fixes it.
    """
    bundles, damaged = ([find_expert(expert_id)], []) if expert_id else catalogue().look()
    damaged = [*damaged]
    for bundle in bundles:
        try:
            bundle.verify()
        except ChecksumMismatch as error:
            damaged.append(left_out(bundle.path, ArtifactError(error.message)))
        except OSError as error:
            why = f"{error.filename or bundle.path} can't be read: {error.strerror}"
            damaged.append(left_out(bundle.path, ArtifactError(why)))
        else:
            if as_json:
                print_json({"id": bundle.id, "verified_bytes": bundle.weights_bytes})
            else:
                out.print(f"{bundle.id}: {bundle.weights_bytes:,} bytes match their checksums")
    for one in damaged:
        if as_json:
            print_json({"id": one.expert_id, "reason": one.reason, "fix": one.fix})
        else:
            say(f"{one.expert_id}: {one.reason}; fix: {one.fix}")
    if damaged:
        sys.exit(1)
    if not bundles:
        _say_none()


@app.command()
def remove(expert_id: ExpertId) -> None:
    """Delete an expert. Replicas that share its weights keep them."""
    catalogue().remove(expert_id)


@app.command()
def replicate(
    expert_id: ExpertId,
    count: Annotated[int, typer.Option(min=1, max=4096, help="Total number of replicas.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Create ID@replica-1, ID@replica-2, ...: the same weights under other ids, without using more disk space."""
    for number in range(1, count + 1):
        _print(catalogue().replicate(expert_id, number), as_json)


def _say_none() -> None:
    say(f"no experts in {CoreSettings().experts_dir}: `coe import` adds one, `coe up` the packaged one")


def _print(bundle: Bundle, as_json: bool) -> None:
    if not as_json:
        out.print(summary(bundle), soft_wrap=True)
        return
    manifest = bundle.manifest
    print_json(
        {
            "id": bundle.id,
            "name": manifest.name,
            "architecture": manifest.config.architecture,
            "parameters": manifest.parameters,
            "quantisation": manifest.quantisation,
            "weights_bytes": bundle.weights_bytes,
            "licence": manifest.licence,
            "replica_of": manifest.replica_of,
            "synthetic": manifest.synthetic,
        }
    )
