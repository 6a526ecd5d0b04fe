"""Fetches the broker's jars with Maven, once, into the user's cache."""

import asyncio
import fcntl
import hashlib
import os
import shutil
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import IO

from coe.local.process import Child
from coe.platform.errors import Unavailable

_POM = Path(__file__).with_name("pom.xml")
_STAMP = "pom.sha256"
_FETCH_TIMEOUT_S = 600.0
# Between attempts to take the lock while another process fetches.
_INTERVAL_S = 0.2
_NAMESPACE = {"m": "http://maven.apache.org/POM/4.0.0"}


def version() -> str:
    """The Kafka version in the pom."""
    node = ElementTree.parse(_POM).getroot().find("m:properties/m:kafka.version", _NAMESPACE)
    if node is None or not node.text:
        raise Unavailable(f"{_POM} names no kafka.version")
    return node.text


def cache_dir() -> Path:
    """$XDG_CACHE_HOME/coe/kafka-<version>."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base.absolute() / "coe" / f"kafka-{version()}"


def class_archive() -> Path:
    """The path of the JVM's class-data archive for the broker, which may not exist yet."""
    return cache_dir() / "classes.jsa"


def is_fetched() -> bool:
    stamp = cache_dir() / _STAMP
    return stamp.is_file() and stamp.read_text() == _pom_digest()


def fetch() -> Path:
    """`fetched` for callers without an event loop."""
    return asyncio.run(fetched())


async def fetched() -> Path:
    """Returns the folder of jars, after fetching them (about 20 s, 45 MB) if they are missing or outdated.

    Several processes may call it at once. Raises Unavailable if Maven fails or takes too long.
    """
    target = cache_dir()
    if is_fetched():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        async with asyncio.timeout(_FETCH_TIMEOUT_S):
            with (target.parent / f"{target.name}.lock").open("w") as lock:
                await _owned(lock)
                if not is_fetched():
                    await _copy_dependencies(target)
    except TimeoutError:
        raise Unavailable(f"Maven did not fetch Kafka {version()} within {_FETCH_TIMEOUT_S:.0f} s") from None
    return target


async def _owned(lock: IO[str]) -> None:
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            await asyncio.sleep(_INTERVAL_S)


async def _copy_dependencies(target: Path) -> None:
    """Fills a folder next to the target and renames it, so the target is either complete or absent."""
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable(
            "Maven is missing: install it (apt-get install maven), or set COE_KAFKA_BOOTSTRAP to a broker"
        )
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        jars, log = Path(scratch) / "jars", Path(scratch) / "maven.log"
        # By default Maven only warns of a checksum mismatch.
        command = [maven, "-q", "-B", "--strict-checksums", "-f", str(_POM)]
        child = Child("maven", [*command, "dependency:copy-dependencies", f"-DoutputDirectory={jars}"], log=log)
        child.start()
        try:
            status = await child.wait()
        finally:
            child.kill()
            await child.wait()
        if status != 0:
            lines = log.read_text(errors="replace").splitlines()
            reason = next((line for line in lines if "ERROR" in line), "no reason given")
            raise Unavailable(f"Maven could not fetch Kafka {version()}: {reason}")
        _put_in_place(jars, target)


def _put_in_place(jars: Path, target: Path) -> None:
    (jars / _STAMP).write_text(_pom_digest())
    if target.exists():
        shutil.rmtree(target)
    jars.rename(target)


def _pom_digest() -> str:
    return hashlib.sha256(_POM.read_bytes()).hexdigest()
