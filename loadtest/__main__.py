"""`python -m loadtest`: run a load profile against a running stack, or against its own."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from coe.cli.console import err, fail, out, print_json, say
from coe.cli.servers import quiet_logs
from coe.local.options import StackOptions
from coe.local.stack import Stack
from coe.local.stackfile import StackInfo, running_stack
from coe.platform.errors import CoEError, InvalidPrompt
from coe.platform.settings import CoreSettings
from loadtest import baseline, cost, growth, page
from loadtest.loadprofile import PROFILES, Profile, load
from loadtest.recorder import Sample, summarise
from loadtest.report import Result, print_result
from loadtest.runner import run
from loadtest.steps import steps
from loadtest.tiers import TierPoint, watched
from loadtest.transports import open_transport

# Finished prompts per progress update.
_SHOWN_EVERY = 50
_STDOUT = Path("-")

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)


@app.command("run")
def run_command(
    profile: Annotated[str, typer.Option(help="Name of a profile in profiles/, or path of a YAML file.")] = "smoke",
    transport: Annotated[Literal["kafka", "grpc", "http"], typer.Option(help="How to submit prompts.")] = "kafka",
    report: Annotated[
        Path | None, typer.Option(help="Write an HTML report with plots to this file; - is stdout.")
    ] = None,
    save_baseline: Annotated[bool, typer.Option(help="Compare later runs of this profile with this one.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as one object.")] = False,
    api_key: Annotated[str, typer.Option(envvar="COE_API_KEY", help="API key, if the gateway requires one.")] = "",
) -> None:
    """Run a load profile. The exit status is 1 if its bounds are not met.

    Uses the servers that COE_KAFKA_BOOTSTRAP, COE_GATEWAY and COE_GATEWAY_HTTP name, otherwise the running stack of
    COE_HOME. If there is none, starts a stack and stops it afterwards.
    """
    quiet_logs()
    try:
        wanted = load(profile)
        _check(wanted, transport, report, save_baseline=save_baseline, as_json=as_json)
        run_ = asyncio.run(_run(wanted, transport, api_key))
    except CoEError as error:
        fail(error.message)
    result = run_.result
    figures = baseline.figures(result, run_.speed)
    compared = baseline.ratios(baseline.path(result), figures)
    if save_baseline:
        baseline.save(baseline.path(result), figures)
    else:
        worse = baseline.regressions(compared, wanted.bounds)
        result = replace(result, regressions=tuple(worse))
    tables = err if report == _STDOUT else out
    print_json(result.to_json() | {"times_baseline": compared}) if as_json else print_result(tables, result)
    if report is not None:
        html = page.render(result, run_.samples, run_.tiers, compared)
        if report == _STDOUT:
            sys.stdout.write(html)
        else:
            report.write_text(html)
            err.print(f"report: {report}")
    if result.complaints:
        sys.exit(1)


def _check(profile: Profile, transport: str, report: Path | None, *, save_baseline: bool, as_json: bool) -> None:
    """Checks the options before minutes of load are spent on them. Raises InvalidPrompt."""
    asked = profile.prompts
    if transport == "http" and asked.category and not (asked.expert or asked.experts):
        raise InvalidPrompt(f"{profile.name} sets a category, which the HTTP API does not support")
    if save_baseline and not os.access(baseline.BASELINES, os.W_OK):
        raise InvalidPrompt(f"--save-baseline: {baseline.BASELINES} is not writable")
    if report == _STDOUT:
        if as_json:
            raise InvalidPrompt("--report - and --json can't both write to stdout")
    elif report is not None:
        try:
            report.parent.mkdir(parents=True, exist_ok=True)
            report.touch()
        except OSError as error:
            raise InvalidPrompt(f"--report {report}: {error.strerror}") from None


@app.command("list")
def list_command() -> None:
    """List the available profiles."""
    for path in sorted(PROFILES.glob("*.yaml")):
        out.print(f"{path.stem:14} {load(path.stem).about}", highlight=False)


@dataclass(frozen=True)
class Run:
    result: Result
    samples: list[Sample]
    tiers: list[TierPoint]
    speed: baseline.Speed


async def _run(profile: Profile, transport: str, api_key: str) -> Run:
    async with _stack(profile) as stack, open_transport(transport, stack, api_key) as way:
        columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
        with Progress(*columns, console=err, transient=True) as progress:
            task = progress.add_task(f"{profile.name}: sending")
            done = errors = tokens = 0

            def ended(sample: Sample) -> None:
                nonlocal done, errors, tokens
                done += 1
                tokens += sample.tokens
                errors += bool(sample.error)
                if done % _SHOWN_EVERY:
                    return
                progress.update(task, description=f"{profile.name}: {done} finished, {errors} with errors")

            if profile.bounds.most_growth is not None and not stack.services:
                say(f"{profile.name}: the resources of a stack elsewhere are not visible; only its latency is checked")
            speed, began = baseline.speed(), datetime.now(UTC)
            before = cost.measure(stack)
            async with watched(stack.redis_url) as tiers, growth.watched(stack, profile) as looks:
                samples = await run(profile, way, ended)
            used = cost.difference(before, cost.measure(stack), done)
            speed = baseline.between(speed, baseline.speed())
    result = Result(
        profile,
        transport,
        summarise(samples),
        used,
        tokens / max(1, done),
        tuple(steps(profile, samples)),
        growth=tuple(growth.growths(profile, looks, samples)),
        ended=tuple(growth.ended(looks)),
        began=began,
    )
    return Run(result, samples, tiers, speed)


@asynccontextmanager
async def _stack(profile: Profile) -> AsyncIterator[StackInfo]:
    running = elsewhere() or running_stack(CoreSettings().home)
    if running is not None:
        if profile.stack:
            wanted = ", ".join(f"{name}={value}" for name, value in profile.stack.items())
            say(f"{profile.name} expects a stack with {wanted}; using the running one as is")
        yield running
        return
    os.environ.update(profile.stack)
    async with Stack(StackOptions(), on_step=lambda step: err.print(f"{step} ...")) as stack:
        yield stack.info


def elsewhere() -> StackInfo | None:
    """The servers that the environment names; None if none of them accepts prompts."""
    core = CoreSettings()
    named = core.model_fields_set
    kafka = core.kafka_bootstrap if "kafka_bootstrap" in named else ""
    gateway, http = os.environ.get("COE_GATEWAY", ""), os.environ.get("COE_GATEWAY_HTTP", "")
    if not (kafka or gateway or http):
        return None
    # Only an explicitly set Redis is used: one at the default address would belong to another system.
    return StackInfo(str(core.home), kafka, core.redis_url if "redis_url" in named else "", gateway, http)


if __name__ == "__main__":
    app()
