"""Fixtures of all tests: the real servers, one of each a session."""

import logging
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from support import servers
from support.experts import smollm2_bundle

__all__ = ["smollm2_bundle"]

if sys.platform != "linux":
    pytest.exit("the tests need Linux: shared memory, prctl, loopback servers", returncode=1)

# A shell that starts the suite in background has it ignore Ctrl-C, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def kafka_bootstrap(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real broker; the one at COE_TEST_KAFKA instead when that is set. Tests make topics and groups of their own."""
    if given := os.environ.get("COE_TEST_KAFKA"):
        yield given
        return
    with servers.kafka(tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real Redis-protocol server; the one at COE_TEST_REDIS instead when that is set."""
    if given := os.environ.get("COE_TEST_REDIS"):
        yield given
        return
    with servers.valkey(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A developer's COE_* environment must not change what tests see."""
    for name in list(os.environ):
        if name.startswith("COE_") and not name.startswith("COE_TEST_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Commands set up the logs of their process, here that of all tests: later ones would capture nothing."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    structlog.reset_defaults()
    root.setLevel(level)
    root.handlers[:] = handlers
