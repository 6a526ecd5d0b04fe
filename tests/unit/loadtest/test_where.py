"""Where the load goes: what the environment names, or one clear error before anything is sent."""

import asyncio
from contextlib import suppress

import pytest

from coe.local.stackfile import StackInfo
from coe.platform.errors import InvalidPrompt
from coe.platform.residency.view import ClusterView
from loadtest import tiers
from loadtest.__main__ import elsewhere
from loadtest.transports import open_transport


def test_nothing_named_is_nowhere() -> None:
    assert elsewhere() is None


@pytest.mark.parametrize("variable", ["COE_KAFKA_BOOTSTRAP", "COE_GATEWAY", "COE_GATEWAY_HTTP"])
def test_any_named_server_is_taken(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "there:1")
    stack = elsewhere()
    assert stack is not None
    found = [stack.kafka_bootstrap, stack.gateway, stack.gateway_http]
    assert sorted(found) == ["", "", "there:1"]
    assert stack.redis_url == ""


async def test_without_a_redis_nothing_is_watched() -> None:
    async with tiers.watched("") as points:
        assert points == []


@pytest.mark.parametrize(
    ("way", "variable"), [("kafka", "COE_KAFKA_BOOTSTRAP"), ("grpc", "COE_GATEWAY"), ("http", "COE_GATEWAY_HTTP")]
)
@pytest.mark.parametrize(("address", "said"), [("", "set"), ("http://there:80", "HOST:PORT"), ("there", "HOST:PORT")])
async def test_an_address_that_is_none_names_its_variable(way: str, variable: str, address: str, said: str) -> None:
    with pytest.raises(InvalidPrompt, match=rf"{variable}|{said} {variable}") as refused:
        async with open_transport(way, StackInfo("", address, "", address, address)):
            pass
    assert said in refused.value.message


async def test_a_read_that_loses_its_cancellation_holds_up_no_run(monkeypatch: pytest.MonkeyPatch) -> None:
    reading = asyncio.Event()

    class Deaf:
        def __init__(self, redis_url: str) -> None:
            pass

        async def snapshot(self) -> ClusterView:
            reading.set()
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
            return ClusterView()

        async def close(self) -> None:
            pass

    monkeypatch.setattr(tiers, "ResidencyReader", Deaf)
    async with asyncio.timeout(10):
        async with tiers.watched("redis://there") as points:
            await reading.wait()
    assert points == []
