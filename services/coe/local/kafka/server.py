"""Runs one Kafka node as a child process."""

import asyncio
import os
import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from pathlib import Path

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from coe.local.kafka import artifacts
from coe.local.kafka.config import DATA, KafkaNode, java_options, properties
from coe.local.ports import free_port
from coe.local.process import Child
from coe.local.readiness import accepts
from coe.local.server import LocalServer
from coe.platform.bus.kafka.client import closing
from coe.platform.errors import Unavailable

_LOG_CONFIG = Path(__file__).with_name("log4j2.properties")
_SETTINGS = "server.properties"
_FORMAT_TIMEOUT_S = 60
# In the C locale, Java reads paths as ASCII.
_ENVIRONMENT = {"LC_ALL": "C.UTF-8"}


class KafkaServer(LocalServer):
    """A broker with its data, settings and log under `directory`, where they survive a restart.

    async with KafkaServer(path) as kafka:
        ... kafka.bootstrap
    """

    def __init__(
        self,
        directory: Path,
        node: KafkaNode | None = None,
        *,
        cluster_id: str | None = None,
        log: Path | None = None,
        java_options: Sequence[str] | None = None,
        start_timeout_s: float = 90.0,
        grace_s: float = 20.0,
    ) -> None:
        """`node`: by default a cluster of one on free ports. Nodes of one cluster share `cluster_id`.

        `java_options`: by default those for a fast start.
        """
        super().__init__()
        self._directory = directory
        self._node = node or KafkaNode(node_id=1, port=free_port(), voters={1: free_port()})
        self._cluster_id = cluster_id or new_cluster_id()
        self._java_options = java_options
        self._log = log or directory / "kafka.log"
        self._start_timeout_s = start_timeout_s
        self._grace_s = grace_s

    @property
    def bootstrap(self) -> str:
        return self._node.bootstrap

    async def start(self) -> None:
        java, jars = _java(), await artifacts.fetched()
        data = self._directory / DATA
        # It holds prompts and answers, also while the stack is down.
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self._directory / _SETTINGS).write_text(properties(self._node))
        quick = _archive_options() if self._java_options is None else self._java_options
        options = [*java_options(self._node), f"-Dlog4j2.configurationFile={_LOG_CONFIG}", "-cp", f"{jars}/*"]
        if not (data / "meta.properties").exists():
            tool = [java, *_archive_options(), *options, "kafka.tools.StorageTool"]
            await asyncio.to_thread(self._format, tool)
        command = [java, *quick, *options, "kafka.Kafka", _SETTINGS]
        child = Child("kafka", command, log=self._log, env=_ENVIRONMENT, cwd=self._directory, grace_s=self._grace_s)
        await self._run(child, self._answers, self._start_timeout_s)

    def _format(self, tool: list[str], *more: str) -> None:
        """Formats a new data folder with the cluster's identity. `more`: further options of the storage tool."""
        # A single argument, as an id may begin with a dash and would be read as an option.
        command = [*tool, "format", f"--cluster-id={self._cluster_id}", "--config", _SETTINGS, *more]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                timeout=_FORMAT_TIMEOUT_S,
                check=False,
                env=os.environ | _ENVIRONMENT,
                cwd=self._directory,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"Kafka's storage tool did not finish within {_FORMAT_TIMEOUT_S} s") from None
        if done.returncode != 0:
            reason = next(iter((done.stderr or done.stdout).strip().splitlines()), "no reason given")
            raise Unavailable(f"Kafka's storage could not be formatted: {reason}")

    async def _answers(self) -> bool:
        """Whether the broker serves requests: its port accepts connections and it lists its topics."""
        if not await accepts(self._node.host, self._node.port):
            return False
        admin = closing(AIOKafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=5000))
        try:
            await admin.start()
            await admin.list_topics()
        except (KafkaError, OSError):
            return False
        finally:
            await admin.close()
        return True


def new_cluster_id() -> str:
    """22 characters of URL-safe Base64, in the format of Kafka's own tool."""
    return urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")


def _archive_options() -> list[str]:
    archive = artifacts.class_archive()
    return [f"-XX:SharedArchiveFile={archive}"] if archive.exists() else []


def find_java() -> str | None:
    """The `java` to run the broker with: from JAVA_HOME if it is set, else from PATH."""
    home = os.environ.get("JAVA_HOME")
    return shutil.which("java", path=f"{home}/bin" if home else None)


def _java() -> str:
    java = find_java()
    if java is None:
        home = os.environ.get("JAVA_HOME")
        raise Unavailable(
            f"JAVA_HOME={home} has no bin/java: set it to a Java 17, or to nothing"
            if home
            else "Java 17 is missing: install it (apt-get install openjdk-17-jre-headless), or set JAVA_HOME"
        )
    return java
