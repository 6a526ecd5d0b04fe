"""run/stack.json: the addresses of a running stack's servers, for commands and other programs."""

import fcntl
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import BinaryIO

import psutil

from coe.platform.errors import Unavailable

# `struct flock`: a write lock on the whole file.
_ALONE = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


@dataclass(frozen=True)
class ServiceAddress:
    """`grpc` is host:port."""

    pid: int
    grpc: str


@dataclass(frozen=True)
class StackInfo:
    """Addresses are host:port; `gateway_http` is empty when the HTTP API is off. `pid` is the stack's own process."""

    home: str
    kafka_bootstrap: str
    redis_url: str
    gateway: str
    gateway_http: str
    services: Mapping[str, ServiceAddress] = field(default_factory=dict)
    pid: int = field(default_factory=os.getpid)
    # Seconds since the epoch. Together with the pid, tells this process from a later one with the same pid.
    pid_created: float = field(default_factory=lambda: psutil.Process().create_time())


def path(home: Path) -> Path:
    return home / "run" / "stack.json"


def lock_path(home: Path) -> Path:
    """The file that a running stack holds a lock on."""
    return home / "run" / "stack.lock"


def claim(lock: BinaryIO) -> None:
    """Locks the file until it is closed. Raises OSError if it is already locked."""
    fcntl.fcntl(lock, fcntl.F_OFD_SETLK, _ALONE)


def is_claimed(home: Path) -> bool:
    """Whether a stack is starting, running or stopping there. Takes no lock, which could keep a stack from starting."""
    try:
        with lock_path(home).open("rb") as lock:
            found = fcntl.fcntl(lock, fcntl.F_OFD_GETLK, _ALONE)
    except OSError:
        return False
    return struct.unpack_from("h", found) != (fcntl.F_UNLCK,)


def write(info: StackInfo) -> None:
    """Replaces the file atomically: readers see either the old one or the new one."""
    target = path(Path(info.home))
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_suffix(".tmp")
    scratch.unlink(missing_ok=True)
    # A URL with a password must be readable by its owner only.
    scratch.touch(mode=0o600 if "@" in info.redis_url else 0o666)
    scratch.write_text(json.dumps(asdict(info), indent=2) + "\n")
    scratch.replace(target)


def remove(home: Path) -> None:
    path(home).unlink(missing_ok=True)


def running_stack(home: Path) -> StackInfo | None:
    """Returns the stack that runs on this home; None if there is none, or only the file of one that died.

    Raises Unavailable if the file is not valid for this version.
    """
    try:
        text = path(home).read_text()
    except FileNotFoundError:
        return None
    try:
        fields = json.loads(text)
        services = {name: ServiceAddress(**service) for name, service in fields.pop("services").items()}
        info = StackInfo(**fields, services=services)
    except (ValueError, TypeError, KeyError, AttributeError):
        raise Unavailable(f"{path(home)} is not a stack file of this version: stop that stack and remove it") from None
    return info if _lives(info) else None


def _lives(info: StackInfo) -> bool:
    try:
        return abs(psutil.Process(info.pid).create_time() - info.pid_created) < 1.0
    except psutil.NoSuchProcess:
        return False
