"""The life of a service: order of its steps, ends by event and by failure; the whole process by signal."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path

import grpc.aio
import pytest

from coe._proto import gateway_pb2, gateway_pb2_grpc
from coe.platform.errors import InternalError, Unavailable
from coe.platform.service import run, serve
from coe.platform.settings import GrpcSettings


class Probe:
    name = "probe"

    def __init__(self, *, start: BaseException | None = None, task: BaseException | None = None) -> None:
        self.steps: list[str] = []
        self._start_error, self._task_error = start, task
        self.started = asyncio.Event()

    def register(self, server: grpc.aio.Server) -> list[str]:
        return []

    async def start(self) -> None:
        self.steps.append("start")
        if self._start_error:
            raise self._start_error
        self.started.set()

    def tasks(self) -> list[Coroutine[object, object, None]]:
        return [self._task()]

    async def _task(self) -> None:
        if self._task_error:
            raise self._task_error
        await asyncio.Event().wait()

    async def stop(self) -> None:
        self.steps.append("stop")


async def test_runs_until_it_is_told_to_stop() -> None:
    probe, stopping = Probe(), asyncio.Event()
    serving = asyncio.create_task(serve(probe, GrpcSettings(), stopping))
    await probe.started.wait()
    stopping.set()
    await serving
    assert probe.steps == ["start", "stop"]


@pytest.mark.parametrize("probe", [{"start": Unavailable("no broker")}, {"task": Unavailable("broker lost")}])
async def test_a_failure_stops_what_was_started(probe: dict[str, BaseException]) -> None:
    service = Probe(**probe)
    with pytest.raises(Unavailable):
        await serve(service, GrpcSettings(grace_s=0))
    assert service.steps == ["start", "stop"]


async def test_a_port_that_is_taken_stops_what_was_registered() -> None:
    service = Probe()
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(Unavailable, match="can't listen"):
        await serve(service, GrpcSettings(port=other.getsockname()[1], grace_s=0))
    assert service.steps == ["stop"]


class Talker(gateway_pb2_grpc.GatewayServicer, Probe):
    answers_to_the_end = True

    def __init__(self) -> None:
        super().__init__()
        self.may_end = asyncio.Event()

    def register(self, server: grpc.aio.Server) -> list[str]:
        gateway_pb2_grpc.add_GatewayServicer_to_server(self, server)
        return []

    async def Generate(self, request: object, context: object) -> AsyncIterator[gateway_pb2.GenerateResponse]:
        yield gateway_pb2.GenerateResponse()
        await self.may_end.wait()
        self.steps.append("answered")
        yield gateway_pb2.GenerateResponse()


async def test_calls_under_way_may_need_the_service_to_their_end(tmp_path: Path) -> None:
    talker, stopping = Talker(), asyncio.Event()
    settings = GrpcSettings(ready_file=tmp_path / "ready", grace_s=20)
    serving = asyncio.create_task(serve(talker, settings, stopping))
    await talker.started.wait()
    async with grpc.aio.insecure_channel((tmp_path / "ready").read_text().strip()) as channel:
        call = gateway_pb2_grpc.GatewayStub(channel).Generate(gateway_pb2.GenerateRequest(), timeout=20)
        await call.read()
        stopping.set()
        # Time to stop in for who would not wait.
        for _ in range(100):
            await asyncio.sleep(0)
        talker.may_end.set()
        await call.read()
        assert await call.code() is grpc.StatusCode.OK
    await serving
    assert talker.steps == ["start", "answered", "stop"]


def start_process(ready: Path, **env: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "COE_GRPC_READY_FILE": str(ready), **env}
    return subprocess.Popen([sys.executable, __file__], env=environment, stderr=subprocess.PIPE, text=True)


def test_a_process_ends_in_order_on_sigterm(tmp_path: Path) -> None:
    process = start_process(tmp_path / "ready")
    assert process.stderr is not None
    for line in process.stderr:
        if '"serving"' in line:
            break
    assert (tmp_path / "ready").read_text().startswith("127.0.0.1:")
    process.send_signal(signal.SIGTERM)
    rest = process.communicate(timeout=30)[1]
    assert process.returncode == 0, rest
    assert '"stopping"' in rest


def test_a_process_that_can_not_export_says_so_in_one_line(tmp_path: Path) -> None:
    process = start_process(tmp_path / "ready", COE_TRACE_FILE=str(tmp_path))
    (line,) = process.communicate(timeout=30)[1].splitlines()
    assert json.loads(line)["reason"] == f"COE_TRACE_FILE: {tmp_path}: Is a directory"
    assert process.returncode == 1


def test_a_process_whose_parent_is_gone_does_not_start(tmp_path: Path) -> None:
    process = start_process(tmp_path / "ready", COE_PARENT_PID="1")
    assert "parent process is gone" in process.communicate(timeout=30)[1]
    assert process.returncode == 1


def test_a_fault_of_ours_leaves_its_cause_in_the_log(tmp_path: Path) -> None:
    process = start_process(tmp_path / "ready", PROBE_FAILS="1")
    *_, last = process.communicate(timeout=30)[1].splitlines()
    line = json.loads(last)
    assert (line["event"], line["code"], line["reason"]) == ("the service ended", "internal", "it broke")
    (cause,) = line["exception"]
    assert (cause["exc_type"], cause["exc_value"]) == ("ZeroDivisionError", "here")
    assert process.returncode == 1


def fault() -> InternalError:
    """As of a newer peer, whose code is a detail."""
    broken = InternalError("it broke", code="newer")
    broken.__cause__ = ZeroDivisionError("here")
    return broken


if __name__ == "__main__":
    run(Probe(task=fault() if "PROBE_FAILS" in os.environ else None))
