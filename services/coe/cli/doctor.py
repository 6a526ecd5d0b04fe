"""`coe doctor`: what is missing on this machine, and the mend."""

import sys
from dataclasses import asdict
from typing import Annotated

import typer
from rich.markup import escape

from coe.cli.console import out, print_json
from coe.local.doctor import Check, Level, examine

_SIGNS = {Level.GOOD: "[green]✓[/]", Level.WARNING: "[yellow]![/]", Level.PROBLEM: "[red]✗[/]"}


def command(as_json: Annotated[bool, typer.Option("--json", help="One check a line.")] = False) -> None:
    """Checks every prerequisite. Exit status 1 when something does not work."""
    checks = examine()
    for check in checks:
        print_json(asdict(check)) if as_json else _print(check)
    if any(check.level is Level.PROBLEM for check in checks):
        sys.exit(1)


def _print(check: Check) -> None:
    out.print(f"{_SIGNS[check.level]} {check.name}: {escape(check.found)}", soft_wrap=True)
    if check.mend:
        out.print(f"    [dim]mend:[/] {escape(check.mend)}", soft_wrap=True)
