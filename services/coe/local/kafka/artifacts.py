"""Fetches the broker's jars once, with Maven, into the user's cache."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

from coe.platform.errors import Unavailable

_POM = Path(__file__).with_name("pom.xml")
_STAMP = "pom.sha256"
_FETCH_TIMEOUT_S = 600
_NAMESPACE = {"m": "http://maven.apache.org/POM/4.0.0"}


def version() -> str:
    """The Kafka version that the pom names."""
    node = ElementTree.parse(_POM).getroot().find("m:properties/m:kafka.version", _NAMESPACE)
    if node is None or not node.text:
        raise Unavailable(f"{_POM} names no kafka.version")
    return node.text


def cache_dir() -> Path:
    """$XDG_CACHE_HOME/coe/kafka-<version>."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "coe" / f"kafka-{version()}"


def class_archive() -> Path:
    """Where the JVM's archive of the broker's classes is, once it was made."""
    return cache_dir() / "classes.jsa"


def is_fetched() -> bool:
    stamp = cache_dir() / _STAMP
    return stamp.is_file() and stamp.read_text() == _pom_digest()


def fetch() -> Path:
    """The folder of jars, fetched first when it is not there (about 20 s, 45 MB). Safe to call from many processes."""
    target = cache_dir()
    if is_fetched():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with (target.parent / f"{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_fetched():
            _copy_dependencies(target)
    return target


def _copy_dependencies(target: Path) -> None:
    """Fills a folder beside the target and renames it: the target is either whole or absent."""
    maven = shutil.which("mvn")
    if maven is None:
        raise Unavailable(
            "Maven is missing: install it (apt-get install maven), or set COE_KAFKA_BOOTSTRAP to a broker"
        )
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        jars = Path(scratch) / "jars"
        command = [maven, "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={jars}"]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_FETCH_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired:
            raise Unavailable(f"Maven did not bring Kafka {version()} within {_FETCH_TIMEOUT_S} s") from None
        if done.returncode != 0:
            reason = next((line for line in done.stdout.splitlines() if "ERROR" in line), "no reason given")
            raise Unavailable(f"Maven could not bring Kafka {version()}: {reason}")
        (jars / _STAMP).write_text(_pom_digest())
        if target.exists():
            shutil.rmtree(target)
        jars.rename(target)


def _pom_digest() -> str:
    return hashlib.sha256(_POM.read_bytes()).hexdigest()
