"""Help says what each option and argument is for."""

from collections.abc import Iterator
from typing import Any

import pytest
import typer.main

from coe.cli import main as cli


def without_help(command: Any, path: str) -> Iterator[str]:
    for parameter in command.params:
        if not parameter.help:
            yield f"{path} {parameter.opts[0]}"
    for name, inner in getattr(command, "commands", {}).items():
        yield from without_help(inner, f"{path} {name}")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_option_says_what_it_is_for(name: str) -> None:
    known: Any = typer.main.get_command(cli.build([name]))
    assert list(without_help(known.commands[name], name)) == []
