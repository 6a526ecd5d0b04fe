"""Every `coe` command that a page shows exists, with the options that it shows."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from coe.cli import main as cli

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# In a block, at the start of a line or after its prompt; in a sentence, between backticks, which may span two lines.
_IN_BLOCK = re.compile(r"^(?:\$ )?(?:\.venv/bin/)?coe ([^#\n|]+)", re.MULTILINE)
_IN_TEXT = re.compile(r"`(?:\.venv/bin/)?coe ([^`]+)`")


def shown() -> Iterator[Any]:
    for page in PAGES:
        text = page.read_text()
        for found in sorted({*_IN_BLOCK.findall(text), *_IN_TEXT.findall(text)}):
            command = " ".join(found.partition(">")[0].split())
            yield pytest.param(command, id=f"{page.name}: {command}")


@pytest.mark.parametrize("command", list(shown()))
def test_a_command_of_a_page_exists(command: str) -> None:
    words = shlex.split(command)
    known: Any = typer.main.get_command(cli.build(words))
    path, names = "coe", True
    for word in words:
        if word.startswith("-"):
            # What follows may be its value.
            names = False
            options = {name for parameter in known.params for name in parameter.opts + parameter.secondary_opts}
            assert word.partition("=")[0] in options | {"--help"}, f"{path} has no option {word}"
        elif names and hasattr(known, "commands") and not word.isupper():
            assert word in known.commands, f"{path} has no command {word}"
            known, path = known.commands[word], f"{path} {word}"
