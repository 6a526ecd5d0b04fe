"""`coe doctor`: what is missing on this machine or in a deployment, and the fix."""

import asyncio
import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from coe.cli.console import out, print_json
from coe.cli.servers import kafka_bootstrap, quiet_logs
from coe.local.doctor import Check, Level, examine
from coe.local.doctor.arenas import left_arenas, remove
from coe.local.doctor.facts import examine_deployment
from coe.local.stackfile import running_stack
from coe.platform.errors import InvalidPrompt
from coe.platform.settings import CoreSettings

_SIGNS = {Level.GOOD: "[green]✓[/]", Level.WARNING: "[yellow]![/]", Level.PROBLEM: "[red]✗[/]"}


def command(
    deploy: Annotated[
        bool, typer.Option("--deploy", help="Check a deployment: topics, replicas, Redis, services, limits.")
    ] = False,
    service: Annotated[
        list[str] | None,
        typer.Option(help="With --deploy: NAME=HOST:PORT of a service whose health to check; may be repeated."),
    ] = None,
    clean: Annotated[
        bool, typer.Option("--clean", help="Only remove the arenas that killed managers left in /dev/shm.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object per check.")] = False,
) -> None:
    """Check every prerequisite. Exits with status 1 if something does not work.

    --clean keeps arenas that a running manager owns or a worker has mapped.

    --deploy checks the servers named by COE_KAFKA_BOOTSTRAP and COE_REDIS_URL, or else those of the running stack.
    """
    quiet_logs()
    if service and not deploy:
        raise InvalidPrompt("--service requires --deploy")
    if clean:
        for arena in left_arenas():
            if remove(arena.name):
                print_json(asdict(arena)) if as_json else out.print(f"removed {arena.name}, {arena.nbytes >> 20} MiB")
        return
    checks = asyncio.run(_deployment(service or [])) if deploy else examine()
    for check in checks:
        print_json(asdict(check)) if as_json else _print(check)
    if any(check.level is Level.PROBLEM for check in checks):
        sys.exit(1)


async def _deployment(named: list[str]) -> list[Check]:
    settings = CoreSettings()
    stack = running_stack(settings.home)
    services = {name: address.grpc for name, address in stack.services.items()} if stack else {}
    for text in named:
        name, equals, address = text.partition("=")
        if not equals or ":" not in address:
            raise InvalidPrompt(f"--service {text}: must be NAME=HOST:PORT")
        services[name] = address
    given = "redis_url" in settings.model_fields_set or stack is None
    redis = settings.redis_url if given or stack is None else stack.redis_url
    return await examine_deployment(kafka_bootstrap(None), redis, services, settings.node)


def _print(check: Check) -> None:
    out.print(f"{_SIGNS[check.level]} {check.name}: {escape(check.found)}", soft_wrap=True)
    if check.fix:
        out.print(f"    [dim]fix:[/] {escape(check.fix)}", soft_wrap=True)
