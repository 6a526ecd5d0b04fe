"""The embedded stack as a context manager: it serves inside the context and leaves no process running after it."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from coe.local import home as homes
from coe.local import prepare, stackfile
from coe.local.kafka import KafkaServer, artifacts
from coe.local.options import StackOptions
from coe.local.plan import Plan, Servers, plan
from coe.local.ports import free_port, is_free
from coe.local.restart import NEVER, RestartPolicy
from coe.local.server import LocalServer
from coe.local.service import ServiceProcess, ServiceSpec
from coe.local.supervisor import Supervised
from coe.local.valkey import ValkeyServer
from coe.platform.bus.kafka import KafkaBus
from coe.platform.errors import ArtifactError, Unavailable
from coe.platform.sasl import SaslSettings
from coe.platform.settings import CoreSettings
from coe.platform.tls import TlsSettings


class Stack:
    """Broker, Redis, services and gateway of one COE_HOME.

    async with Stack(StackOptions(workers=2)) as stack:
        ... stack.kafka_bootstrap, stack.info

    `on_change` is called after every change of a process's state, `on_step` with each step of the start, `on_warning`
    with each problem that does not prevent a start: one line for each expert that can't be used.
    """

    def __init__(
        self,
        options: StackOptions | None = None,
        *,
        on_change: Callable[[Supervised], None] = lambda _: None,
        on_step: Callable[[str], None] = lambda _: None,
        on_warning: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._options = options or StackOptions()
        self._core = CoreSettings()
        self.home = (self._options.home or self._core.home).absolute()
        self._on_change = on_change
        self._on_step = on_step
        self._on_warning = on_warning
        self.processes: list[Supervised] = []
        self._stages: list[list[Supervised]] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._info: stackfile.StackInfo | None = None
        self._exit = AsyncExitStack()

    @property
    def info(self) -> stackfile.StackInfo:
        """The addresses of its servers. Raises RuntimeError unless the stack is running."""
        if self._info is None:
            raise RuntimeError("the stack is not running")
        return self._info

    @property
    def kafka_bootstrap(self) -> str:
        return self.info.kafka_bootstrap

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stop()

    async def run_until_failed(self) -> None:
        """Never returns. Raises Unavailable when a process exits that may not be restarted."""
        await asyncio.gather(*self._keepers)

    async def _start(self) -> None:
        TlsSettings().check()
        if self._core.kafka_security == "SSL" and "kafka_bootstrap" not in self._core.model_fields_set:
            raise ArtifactError(
                "COE_KAFKA_SECURITY=SSL needs COE_KAFKA_BOOTSTRAP: the broker of `coe up` speaks no TLS"
            )
        sasl = SaslSettings()
        sasl.check()
        if sasl.mechanism and "kafka_bootstrap" not in self._core.model_fields_set:
            raise ArtifactError(
                "COE_KAFKA_SASL_MECHANISM needs COE_KAFKA_BOOTSTRAP: the broker of `coe up` asks nobody"
            )
        self._exit.enter_context(homes.claimed(self.home))
        self._check_ports()
        homes.rotate_logs(self._logs)
        hosted = await prepare.prepare(self.home, self._options, self._on_step, self._on_warning)
        hbm_bytes = prepare.hbm_bytes(self._options, hosted)
        servers = await self._start_servers()
        layout = plan(self._options, self.home, servers, hbm_bytes, _take_port, self._core.metrics_port)
        stages = [[self._service(spec) for spec in stage] for stage in layout.stages]
        self.processes += [process for stage in stages for process in stage]
        for stage in stages:
            await self._start_stage(stage)
        self._publish(layout, servers)

    def _check_ports(self) -> None:
        """Raises Unavailable if a port that was set explicitly is taken: clients expect the gateway there."""
        for name in ("gateway_port", "gateway_http_port"):
            port = getattr(self._options, name)
            if name in self._options.model_fields_set and port and not is_free(port):
                raise Unavailable(
                    f"port {port} is taken: stop the process that uses it, or change COE_STACK_{name.upper()}"
                )

    async def _start_servers(self) -> Servers:
        """Starts the broker and Redis, unless the settings name others, then creates the topics."""
        run = self.home / "run"
        given, timeout_s = self._core.model_fields_set, self._options.start_timeout_s
        kafka, redis = self._core.kafka_bootstrap, self._core.redis_url
        stage = []
        if "redis_url" not in given:
            valkey = ValkeyServer(run / "valkey", log=self._logs / "valkey.log", start_timeout_s=timeout_s)
            redis = valkey.url
            stage.append(self._supervised("valkey", valkey, f"127.0.0.1:{valkey.port}", RestartPolicy()))
        if "kafka_bootstrap" not in given:
            broker = KafkaServer(run / "kafka", log=self._logs / "kafka.log", start_timeout_s=timeout_s)
            kafka = broker.bootstrap
            if not artifacts.is_fetched():
                self._on_step(f"fetching Kafka {artifacts.version()} with Maven")
            # Its clients would have lost their transactions, so the whole stack has to be started again.
            stage.append(self._supervised("kafka", broker, kafka, NEVER))
        self.processes += stage
        await self._start_stage(stage)
        self._on_step("creating topics")
        bus = KafkaBus(kafka, source="coe/stack", start_timeout_s=timeout_s, on_wait=self._waits_for(kafka))
        await self._unless_one_fails(bus.start())
        await bus.stop()
        return Servers(kafka, redis)

    def _waits_for(self, bootstrap: str) -> Callable[[str], None]:
        """Reports each reason that a configured broker can't be reached, once."""
        said: set[str] = set()

        def waits(why: str) -> None:
            if why not in said:
                said.add(why)
                self._on_step(f"waiting for a Kafka broker, {why or f'none answers at {bootstrap}'}")

        return waits

    async def _start_stage(self, stage: list[Supervised]) -> None:
        """Starts its processes concurrently. If one fails, the others are left to `_stop`."""
        self._stages.append(stage)
        await self._unless_one_fails(*(process.start() for process in stage))
        self._keepers += [asyncio.create_task(process.keep(), name=process.name) for process in stage]

    async def _unless_one_fails(self, *starts: Coroutine[object, object, None]) -> None:
        """Awaits `starts`. Raises as soon as one fails, or a running process that they may wait for fails for good."""
        left = {asyncio.create_task(start) for start in starts}
        try:
            while left:
                done, _ = await asyncio.wait({*left, *self._keepers}, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                left -= done
        finally:
            await _cancel(left)

    async def _stop(self) -> None:
        """Stops in reverse start order, so no new work arrives while work in progress is finished."""
        try:
            await _cancel(self._keepers)
            if self._info is not None:
                stackfile.remove(self.home)
                self._info = None
            for stage in reversed(self._stages):
                await asyncio.gather(*(process.stop() for process in stage))
        finally:
            # Reached early if a second interrupt cancels the orderly stop.
            await asyncio.gather(*(process.kill() for stage in self._stages for process in stage))
            self._stages.clear()
            await self._exit.aclose()

    @property
    def _logs(self) -> Path:
        return self.home / "run" / "logs"

    def _service(self, spec: ServiceSpec) -> Supervised:
        options = self._options
        process = ServiceProcess(spec, self._logs, start_timeout_s=options.start_timeout_s, grace_s=options.grace_s)
        return self._supervised(spec.name, process, spec.address, RestartPolicy())

    def _supervised(self, name: str, server: LocalServer, address: str, restarts: RestartPolicy) -> Supervised:
        return Supervised(name, server, address=address, restarts=restarts, on_change=self._changed)

    def _changed(self, process: Supervised) -> None:
        """Updates the stack file, as a restarted service has a new pid."""
        if self._info is not None and process.pid is not None:
            self._write(self._info)
        self._on_change(process)

    def _publish(self, layout: Plan, servers: Servers) -> None:
        self._write(
            stackfile.StackInfo(
                home=str(self.home),
                kafka_bootstrap=servers.kafka_bootstrap,
                redis_url=servers.redis_url,
                gateway=layout.gateway,
                gateway_http=layout.gateway_http,
            )
        )

    def _write(self, info: stackfile.StackInfo) -> None:
        services = {
            process.name: stackfile.ServiceAddress(process.pid, process.address)
            for process in self.processes
            if process.pid is not None and isinstance(process.server, ServiceProcess)
        }
        self._info = replace(info, services=services)
        stackfile.write(self._info)


def _take_port(preferred: int | None) -> int:
    return preferred if preferred and is_free(preferred) else free_port()


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
