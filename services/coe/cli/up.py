"""`coe up`: the embedded stack in the foreground."""

import asyncio
import signal
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Annotated

import typer
from rich.live import Live

from coe.cli.console import err, print_json, say
from coe.cli.servers import quiet_logs
from coe.local.options import StackOptions
from coe.local.stack import Stack
from coe.local.stackfile import StackInfo
from coe.local.supervisor import State, Supervised
from coe.local.view import table
from coe.platform.residency.connection import without_login

_REFRESH_S = 1.0


def command(
    workers: Annotated[int | None, typer.Option(min=1, help="Number of expert workers.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON event per line instead of the live view.")] = False,
) -> None:
    """Starts broker, Redis, services and gateway on loopback ports and shows their status. Ctrl-C drains and stops.

    COE_KAFKA_BOOTSTRAP and COE_REDIS_URL name servers to use instead of starting them; COE_STACK_* set the rest.
    """
    quiet_logs()
    options = StackOptions() if workers is None else StackOptions(workers=workers)
    asyncio.run(_up(options, as_json))


async def _up(options: StackOptions, as_json: bool) -> None:
    """Returns after a signal. Raises Unavailable if the stack failed."""
    work = asyncio.create_task(_report_events(options) if as_json else _show(options))
    # What else ends a command comes as this one (main.py).
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, work.cancel)
    with suppress(asyncio.CancelledError):
        await work


async def _report_events(options: StackOptions) -> None:
    def changed(process: Supervised) -> None:
        event: dict[str, object] = {
            "event": "process",
            "name": process.name,
            "state": process.state,
            "pid": process.pid,
        }
        if process.trouble:
            event["trouble"] = process.trouble
        print_json(event)

    def step(what: str) -> None:
        print_json({"event": "step", "what": what})

    def warning(what: str) -> None:
        print_json({"event": "warning", "what": what})

    async with Stack(options, on_change=changed, on_step=step, on_warning=warning) as stack:
        print_json({"event": "ready", **asdict(_for_people(stack.info))})
        await stack.run_until_failed()


async def _show(options: StackOptions) -> None:
    """A live table on a terminal; one line per change in a file or pipe."""

    def changed(process: Supervised) -> None:
        # Why one failed is what the command ends with.
        if process.state is State.RESTARTING:
            say(f"{process.name}: {process.state}: {process.trouble}")
        elif not err.is_terminal:
            err.print(f"{process.name}: {process.state}")

    with Live(console=err, auto_refresh=False, transient=True) as live:
        stack = Stack(options, on_change=changed, on_step=lambda what: say(f"{what} ..."), on_warning=say)
        refresher = asyncio.create_task(_refresh(live, stack))
        try:
            async with stack:
                _say_where(stack)
                await stack.run_until_failed()
        finally:
            refresher.cancel()


async def _refresh(live: Live, stack: Stack) -> None:
    while True:
        live.update(table(stack.processes), refresh=err.is_terminal)
        await asyncio.sleep(_REFRESH_S)


def _for_people(info: StackInfo) -> StackInfo:
    """What is printed stays in terminals and journals."""
    return replace(info, redis_url=without_login(info.redis_url))


def _say_where(stack: Stack) -> None:
    info = _for_people(stack.info)
    say(f"Kafka {info.kafka_bootstrap}   Redis {info.redis_url}   gRPC {info.gateway}   HTTP {info.gateway_http}")
    say(f'Try: coe submit "What is the derivative of x^2?"    Ctrl-C stops. Logs: {stack.home}/run/logs')
