"""`python -m loadtest`: run a profile against a running stack, or one of its own."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from coe.cli.console import err, fail, out, print_json
from coe.local.options import StackOptions
from coe.local.stack import Stack
from coe.local.stackfile import StackInfo, running_stack
from coe.platform.errors import CoEError
from coe.platform.settings import CoreSettings
from loadtest import cost, page
from loadtest.loadprofile import PROFILES, Profile, load
from loadtest.recorder import Sample, summarise
from loadtest.report import Result, print_result
from loadtest.runner import run
from loadtest.transports import open_transport

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command("run")
def run_command(
    profile: Annotated[str, typer.Option(help="A name from profiles/, or the path of a YAML file.")] = "smoke",
    transport: Annotated[str, typer.Option(help="kafka, grpc or http.")] = "kafka",
    report: Annotated[Path | None, typer.Option(help="Writes an HTML page with plots there.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The result as one object.")] = False,
) -> None:
    """Sends what the profile says; exit status 1 when its bounds are not kept.

    Uses the servers that COE_KAFKA_BOOTSTRAP, COE_GATEWAY and COE_GATEWAY_HTTP name; without these the stack that runs
    on COE_HOME; when none does, starts one and stops it again.
    """
    try:
        wanted = load(profile)
        result, samples = asyncio.run(_run(wanted, transport))
    except CoEError as error:
        fail(error.message)
    print_json(result.to_json()) if as_json else print_result(out, result)
    if report is not None:
        report.parent.mkdir(parents=True, exist_ok=True)
        report.write_text(page.render(result, samples))
        err.print(f"report: {report}")
    if result.complaints:
        sys.exit(1)


@app.command("list")
def list_command() -> None:
    """The profiles that there are."""
    for path in sorted(PROFILES.glob("*.yaml")):
        out.print(f"{path.stem:14} {load(path.stem).about}", highlight=False)


async def _run(profile: Profile, transport: str) -> tuple[Result, list[Sample]]:
    async with _stack(profile) as stack, open_transport(transport, stack) as way:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=err, transient=True) as progress:
            task = progress.add_task(f"{profile.name}: sending")
            done = errors = 0

            def ended(sample: Sample) -> None:
                nonlocal done, errors
                done += 1
                errors += bool(sample.error)
                progress.update(task, description=f"{profile.name}: {done} ended, {errors} of them errors")

            before = cost.measure(stack)
            samples = await run(profile, way, ended)
            used = cost.difference(before, cost.measure(stack), done)
    return Result(profile, transport, summarise(samples), used), samples


@asynccontextmanager
async def _stack(profile: Profile) -> AsyncIterator[StackInfo]:
    running = elsewhere() or running_stack(CoreSettings().home)
    if running is not None:
        yield running
        return
    os.environ.update(profile.stack)
    async with Stack(StackOptions(), on_step=lambda step: err.print(f"{step} ...")) as stack:
        yield stack.info


def elsewhere() -> StackInfo | None:
    """Servers that the environment names; None when it names no broker."""
    core = CoreSettings()
    if "kafka_bootstrap" not in core.model_fields_set:
        return None
    gateway, http = os.environ.get("COE_GATEWAY", ""), os.environ.get("COE_GATEWAY_HTTP", "")
    return StackInfo(str(core.home), core.kafka_bootstrap, core.redis_url, gateway, http)


if __name__ == "__main__":
    app()
