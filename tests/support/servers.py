"""Starts the real servers for the tests of one session."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from coe.local.kafka import KafkaServer
from coe.local.valkey import ValkeyServer


@contextmanager
def kafka(directory: Path) -> Iterator[str]:
    with KafkaServer(directory) as server:
        yield server.bootstrap


@contextmanager
def valkey(directory: Path) -> Iterator[str]:
    with ValkeyServer(directory) as server:
        yield server.url
