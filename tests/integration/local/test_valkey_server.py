"""The embedded Redis-protocol server, used without an event loop."""

from pathlib import Path

import pytest
import redis

from coe.local.valkey import ValkeyServer

pytestmark = pytest.mark.valkey


def test_serves_and_ends(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path) as valkey:
        with redis.Redis.from_url(valkey.url) as client:
            client.set("k", "v")
            assert client.get("k") == b"v"
        child = valkey.child
    assert child is not None
    assert child.returncode == 0
