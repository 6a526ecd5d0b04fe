"""A command that is asked to end, by whatever signal, ends what it has started."""

import signal
import subprocess
import sys

import pytest

from coe.cli import up
from coe.local.options import StackOptions

# A command that waits in one of three ways.
_COMMAND = """
import asyncio, signal, sys
import uvloop
from coe.cli import main as cli

async def wait():
    print("up", flush=True)
    await asyncio.Event().wait()

def plain():
    print("up", flush=True)
    signal.pause()

def fast():
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(wait())

def build(arguments):
    try:
        {"plain": plain, "asyncio": lambda: asyncio.run(wait()), "uvloop": fast}[sys.argv[1]]()
    finally:
        print("ended in order", flush=True)

cli.build = build
cli.main([])
"""


# Whoever runs the tests may have signals ignored, `nohup` say. A process of its own undoes that: what this large one
# runs between fork and exec may end it.
_LAUNCH = """
import os, signal, sys
ignored, *command = sys.argv[1:]
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN if number.name == ignored else signal.SIG_DFL)
os.execv(command[0], command)
"""


def end(way: str, number: signal.Signals, *, ignored: str = "") -> tuple[str, int]:
    arguments = [sys.executable, "-c", _LAUNCH, ignored, sys.executable, "-c", _COMMAND, way]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "up\n"
        command.send_signal(number)
        try:
            return command.communicate(timeout=60)[0], command.returncode
        finally:
            command.kill()


@pytest.mark.parametrize("way", ["plain", "asyncio", "uvloop"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_command_in_order(way: str, number: signal.Signals) -> None:
    assert end(way, number) == ("ended in order\n", 130)


@pytest.mark.parametrize("way", ["plain", "asyncio", "uvloop"])
def test_so_it_does_where_a_script_has_ctrl_c_ignored(way: str) -> None:
    assert end(way, signal.SIGTERM, ignored="SIGINT") == ("ended in order\n", 130)


async def test_what_nohup_ignores_stays_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[object] = []

    async def show(_options: StackOptions) -> None:
        looks.append(signal.getsignal(signal.SIGHUP))

    monkeypatch.setattr(up, "_show", show)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        await up._up(StackOptions(), as_json=False)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert looks == [signal.SIG_IGN]
