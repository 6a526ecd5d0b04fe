"""How commands print: results on stdout, everything else on stderr; `--json` is one object a line."""

import json
import sys
from typing import NoReturn

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console

# A pipe or a log file has no width of its own: wide enough for the tables.
PIPE_WIDTH = 160

out = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_WIDTH)
err = Console(stderr=True, highlight=False, width=None if sys.stderr.isatty() else PIPE_WIDTH)


def print_json(value: dict[str, object] | Message) -> None:
    """One line of JSON on stdout, flushed so that a reader of the pipe sees it at once."""
    if isinstance(value, Message):
        value = MessageToDict(value, preserving_proto_field_name=True)
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def fail(message: str, status: int = 1) -> NoReturn:
    """Ends the command with one clear line on stderr."""
    sys.stderr.write(f"coe: {message}\n")
    sys.exit(status)
