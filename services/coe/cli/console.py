"""How commands print: results to stdout, everything else to stderr; with `--json`, one object per line."""

import json
import sys
from codecs import lookup
from collections.abc import Sequence
from typing import NoReturn

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.progress import Progress
from rich.table import Column

# A pipe or log file has no width of its own; this fits the tables.
PIPE_WIDTH = 160

out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else PIPE_WIDTH)


def short_progress() -> Progress:
    """Progress bars that vanish when the work is done. Nothing is drawn when the output is a log file."""
    return Progress(console=err, transient=True, disable=not err.is_terminal)


def whole(name: str) -> Column:
    """A column of names. On a narrow terminal they wrap, because cut short they may all look alike."""
    return Column(name, overflow="fold")


def print_json(value: dict[str, object] | Message) -> None:
    """One line of JSON on stdout, flushed so that readers of the pipe see it at once."""
    if isinstance(value, Message):
        value = fields(value)
    unicode = lookup(sys.stdout.encoding or "utf-8").name == "utf-8"
    sys.stdout.write(json.dumps(value, ensure_ascii=not unicode) + "\n")
    sys.stdout.flush()


def fields(message: Message) -> dict[str, object]:
    """The message as it appears on the topics: original field names, zero and empty values included."""
    return MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)


def say(line: str) -> None:
    """One line on stderr, not wrapped, because it may contain a command to copy."""
    err.print(line, markup=False, soft_wrap=True)


def say_left_out(models: Sequence[str]) -> None:
    """Reports models in the outcomes whose parameter counts are unknown."""
    if models:
        say(f"Left out for lack of parameter counts: {', '.join(models)} (supply them with --experts)")


def fail(message: str, status: int = 1) -> NoReturn:
    """Exits the command with one clear line on stderr."""
    sys.stderr.write(f"coe: {message}\n")
    sys.exit(status)
