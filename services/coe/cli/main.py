"""`coe`: the table of commands. Only the module of the command that runs is imported, to keep startup fast."""

import errno
import signal
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from inspect import getdoc
from io import TextIOWrapper
from types import FrameType
from typing import Annotated

import typer

from coe.cli.console import fail
from coe.platform.errors import CoEError

# Command -> (module, help). A module defines `app` (a command group) or `command` (a single command).
COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("coe.cli.up", "Start the embedded stack: broker, Redis, services and gateway."),
    "demo": ("coe.cli.demo", "Send varied prompts through a stack and show how each was answered."),
    "submit": ("coe.cli.submit", "Produce prompts to Kafka and stream what comes back."),
    "cancel": ("coe.cli.cancel", "Cancel running prompts."),
    "chat": ("coe.cli.chat", "Chat with the composition through the gateway."),
    "generate": ("coe.cli.generate", "Run one expert in this process, without services."),
    "experts": ("coe.cli.experts", "List, inspect and manage expert bundles."),
    "import": ("coe.cli.import_", "Import a model from GGUF or safetensors as an expert bundle."),
    "train": ("coe.cli.train", "Train the router or solve the mapping."),
    "eval": ("coe.cli.eval", "Evaluate the router and the mapping on outcome data."),
    "simulate": ("coe.cli.simulate", "Simulate scheduling policies and whole clusters."),
    "top": ("coe.cli.top", "Watch a node's tiers, slots, leases and queues."),
    "replay": ("coe.cli.replay", "Replay a memory-tier manager's event log."),
    "dead-letters": ("coe.cli.dead_letters", "Show messages that could not be handled, and why."),
    "bench": ("coe.cli.bench", "Run a benchmark."),
    "doctor": ("coe.cli.doctor", "Check every prerequisite and suggest fixes."),
}


def build(arguments: Sequence[str]) -> typer.Typer:
    """The application for these arguments: only the named command is imported; the others are just help lines."""
    app = typer.Typer(
        name="coe",
        help="Composition of Experts: answers each prompt with the expert that is best for its cost.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    chosen = next((argument for argument in arguments if not argument.startswith("-")), None)
    for name, (module_name, summary) in COMMANDS.items():
        if name != chosen:
            app.command(name, help=summary)(lambda: None)
            continue
        module = import_module(module_name)
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name, help=summary)
        else:
            app.command(name, help="\n\n".join(filter(None, (summary, getdoc(module.command)))))(module.command)
    return app


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"coe {metadata.version('composition-of-experts')}\n")
        raise typer.Exit


def _options(
    _version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Options of `coe` itself."""


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """Acts like Ctrl-C, so that the command shuts down cleanly and removes its shared memory and temporary files."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        # Shells ignore SIGINT for background jobs of a script.
        raise KeyboardInterrupt
    signal.raise_signal(signal.SIGINT)


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point. Exit status: 0 success, 1 failure (with a one-line message), 2 usage error, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    for number in (signal.SIGTERM, signal.SIGHUP):
        # Under `nohup`, SIGHUP is ignored; leave it so.
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, _interrupt)
    if isinstance(sys.stdout, TextIOWrapper):
        # Escape what the encoding can't represent, as stderr does.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        build(arguments)(args=list(arguments))
    except CoEError as error:
        fail(error.message)
    except OSError as error:
        # Most likely a file that the user named, or a full disk.
        if error.filename is None and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        fail(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror))
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            # Move past the ^C that the terminal echoed.
            sys.stderr.write("\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
