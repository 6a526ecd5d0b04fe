"""The lifecycle of a service process: logs, telemetry, gRPC with health and reflection, signals, orderly shutdown.

Each `service.py` calls `run(service)`, which

1. configures logging and telemetry under the service's name,
2. starts the gRPC server with health NOT_SERVING, awaits `service.start()`, then sets SERVING,
3. on SIGINT or SIGTERM, or when the parent dies: sets NOT_SERVING, awaits `service.stop()`, stops the server with a
   grace period (before `service.stop()` if calls need the service until they end), and flushes telemetry.

If a background task of the service fails, the process logs the error and exits with status 1.
"""

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, ExitStack
from typing import Protocol, runtime_checkable

import grpc.aio

from coe.platform import logs, parent
from coe.platform.errors import CoEError, InternalError
from coe.platform.rpc.endpoint import Endpoint
from coe.platform.sasl import SaslSettings
from coe.platform.settings import CoreSettings, GrpcSettings
from coe.platform.telemetry import names, providers, registry
from coe.platform.tls import TlsSettings

_log = logs.get(__name__)
_HEALTH_PERIOD_S = 2.0


class Service(Protocol):
    """The part of a process that is specific to the service."""

    name: str

    def register(self, server: grpc.aio.Server) -> list[str]:
        """Adds the servicers to the server. Returns their full names (`coe.v1.Router`) for health and reflection."""
        ...

    async def start(self) -> None:
        """Opens all resources. Returns once the service can serve."""
        ...

    def tasks(self) -> list[Coroutine[object, object, None]]:
        """Background loops, cancelled before `stop`. If one fails, so does the process."""
        ...

    async def stop(self) -> None:
        """Finishes or hands back work in progress, and closes all resources."""
        ...


@runtime_checkable
class HealthReporting(Service, Protocol):
    """A service that reports when it temporarily cannot serve. Polled every two seconds."""

    async def healthy(self) -> bool: ...


@runtime_checkable
class AnswersToTheEnd(Protocol):
    """A service whose running calls need its resources. They get their grace period before the service is stopped."""

    answers_to_the_end: bool


def run(service: Service, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> None:
    """Runs the process until a signal. Exits with status 1 if the service cannot start or one of its tasks fails.

    `loop_factory` creates the event loop; None selects asyncio's default.
    """
    parent.end_with_parent()
    core, rpc = CoreSettings(), GrpcSettings()
    logs.configure(service.name, level=core.log_level, form=core.log_format)
    with ExitStack() as ending:
        try:
            TlsSettings().check()
            SaslSettings().check()
            ending.callback(providers.configure(service.name, core).shutdown)
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(serve(service, rpc))
        except CoEError as error:
            facts: dict[str, object] = {**error.details, "code": error.code, "reason": error.message}
            # For an internal error, log the traceback of its cause.
            cause = error.__cause__ if isinstance(error, InternalError) else None
            _log.error("the service ended", **facts, exc_info=cause)
            sys.exit(1)
        except Exception as error:
            _log.error("the service failed", reason=f"{type(error).__name__}: {error}", exc_info=error)
            sys.exit(1)


async def serve(service: Service, rpc: GrpcSettings, stopping: asyncio.Event | None = None) -> None:
    """Runs the service until a signal or `stopping` is set. Raises the error if it fails."""
    stopping = stopping or asyncio.Event()
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as cleanup:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stopping.set)
            cleanup.callback(loop.remove_signal_handler, number)
        endpoint = Endpoint(rpc)
        registered = service.register(endpoint.server)
        # Registered before the start, so that everything opened is closed even if the start fails or is interrupted.
        cleanup.push_async_callback(_shut_down, service, endpoint)
        await endpoint.start(registered)
        _show_serving(service, serving=False)
        _log.info("listening", service=service.name, grpc=endpoint.address)
        if not await _finished(service.start(), stopping):
            return
        await _set_serving(service, endpoint, True)
        _log.info("serving", service=service.name, grpc=endpoint.address)
        await _run_tasks(service, endpoint, stopping)
        _log.info("stopping", service=service.name)


async def _shut_down(service: Service, endpoint: Endpoint) -> None:
    await _set_serving(service, endpoint, False)
    try:
        await service.stop()
    finally:
        await endpoint.stop()


async def _finished(start: Coroutine[object, object, None], stopping: asyncio.Event) -> bool:
    """Returns whether `start` finished before a signal; otherwise it is cancelled."""
    starting = asyncio.create_task(start)
    signalled = asyncio.create_task(stopping.wait())
    await asyncio.wait({starting, signalled}, return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if starting.done():
        starting.result()
        return True
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    return False


async def _run_tasks(service: Service, endpoint: Endpoint, stopping: asyncio.Event) -> None:
    """Runs the tasks until a signal. Raises if one ends: its error, or RuntimeError."""
    tasks = [asyncio.create_task(loop) for loop in service.tasks()]
    if isinstance(service, HealthReporting):
        tasks.append(asyncio.create_task(_watch_health(service, endpoint)))
    signalled = asyncio.create_task(stopping.wait())
    try:
        done, _ = await asyncio.wait({signalled, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        await _set_serving(service, endpoint, False)
        for task in done - {signalled}:
            task.result()
            raise RuntimeError("a background task of the service ended unexpectedly")
    finally:
        for task in (signalled, *tasks):
            task.cancel()
        calls = [endpoint.stop()] if isinstance(service, AnswersToTheEnd) else []
        await asyncio.gather(*calls, signalled, *tasks, return_exceptions=True)


async def _watch_health(service: HealthReporting, endpoint: Endpoint) -> None:
    while True:
        await asyncio.sleep(_HEALTH_PERIOD_S)
        await _set_serving(service, endpoint, await service.healthy())


async def _set_serving(service: Service, endpoint: Endpoint, serving: bool) -> None:
    _show_serving(service, serving=serving)
    await endpoint.set_serving(serving)


def _show_serving(service: Service, *, serving: bool) -> None:
    """Exports health as a metric as well, because alerting cannot query the health of every process."""
    registry.gauge("coe.service.serving").set(int(serving), {names.COE_SERVICE: service.name})
