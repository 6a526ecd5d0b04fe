"""One stack at a time on a home, and nothing left from one that was killed."""

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from coe.local.home import claimed, rotate_logs
from coe.local.options import StackOptions
from coe.local.plan import arena_name
from coe.local.stack import Stack
from coe.local.stackfile import is_claimed
from coe.platform.errors import Unavailable


def test_a_second_stack_is_refused(tmp_path: Path) -> None:
    with claimed(tmp_path), pytest.raises(Unavailable, match="already runs"), claimed(tmp_path):
        pass
    with claimed(tmp_path):
        pass


def test_whoever_looks_for_a_stack_keeps_none_from_starting(tmp_path: Path) -> None:
    with claimed(tmp_path):
        pass
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            is_claimed(tmp_path)

    with ThreadPoolExecutor() as pool:
        pool.submit(look)
        try:
            for _ in range(1000):
                with claimed(tmp_path):
                    assert is_claimed(tmp_path)
        finally:
            over.set()


@pytest.mark.parametrize("name", ["gateway_port", "gateway_http_port"])
async def test_a_port_that_was_named_is_the_one_or_none(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        monkeypatch.setenv(f"COE_STACK_{name.upper()}", str(port))
        with pytest.raises(Unavailable, match=f"port {port} is taken: .* COE_STACK_{name.upper()}"):
            async with Stack(StackOptions(home=tmp_path / "home")):
                pytest.fail("it serves elsewhere")


async def test_a_second_stack_hears_of_the_first_and_not_of_its_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as first, claimed(tmp_path):
        monkeypatch.setenv("COE_STACK_GATEWAY_PORT", str(first.getsockname()[1]))
        with pytest.raises(Unavailable, match="already runs"):
            async with Stack(StackOptions(home=tmp_path)):
                pytest.fail("it runs twice")


def test_shared_memory_of_a_killed_stack_is_freed(tmp_path: Path) -> None:
    left = Path("/dev/shm") / arena_name(tmp_path)
    left.write_bytes(b"x")
    leases = left.with_suffix(".leases")
    leases.touch()
    with claimed(tmp_path):
        assert not left.exists()
        assert not leases.exists()


def test_the_last_logs_are_kept(tmp_path: Path) -> None:
    log = tmp_path / "router.log"
    log.write_text("old")
    rotate_logs(tmp_path)
    assert not log.exists()
    assert (tmp_path / "router.log.1").read_text() == "old"
