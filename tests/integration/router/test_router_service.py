"""The router service with its packaged artifact and the real encoder: in memory over gRPC, and on a real broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import grpc
import grpc.aio
import pytest

from coe._proto import common_pb2, events_pb2, router_pb2, router_pb2_grpc
from coe.platform import topics
from coe.platform.bus.api import Bus, Outgoing
from coe.platform.bus.kafka import KafkaBus
from coe.platform.bus.memory import MemoryBus
from coe.platform.rpc.server import ServerInterceptor
from coe.platform.settings import CoreSettings
from coe.router import language
from coe.router.artifact import load, packaged, save
from coe.router.service import RouterService
from coe.router.settings import RouterSettings

pytestmark = pytest.mark.model
WAIT_S = 60.0

PLAIN = {
    "Write a Python function that reverses a linked list.": "coding",
    "I have had a sore throat and a fever for three days. What should I take?": "medical",
    "A baker sells 12 rolls in the morning and twice as many at noon. How many does he sell?": "math",
    "日本で一番高い山は何ですか？": "japanese",
    "Is a non-compete clause enforceable after I resign?": "law",
    "用人单位违法解除劳动合同，劳动者可以要求什么赔偿？": "law",
}


@asynccontextmanager
async def running(
    bus: Bus, home: Path, settings: RouterSettings | None = None
) -> AsyncIterator[router_pb2_grpc.RouterStub]:
    """A router service with its gRPC server and its loops."""
    service = RouterService(CoreSettings(home=home, max_prompt_bytes=10_000), settings or RouterSettings(), bus)
    server = grpc.aio.server(interceptors=[ServerInterceptor()])
    service.register(server)
    port = server.add_insecure_port("127.0.0.1:0")
    await service.start()
    await server.start()
    loops = [asyncio.ensure_future(loop) for loop in service.tasks()]
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield router_pb2_grpc.RouterStub(channel)
    finally:
        for loop in loops:
            loop.cancel()
        await asyncio.gather(*loops, return_exceptions=True)
        await server.stop(0)
        await service.stop()


async def routed(bus: Bus, prompts: list[events_pb2.PromptSubmitted]) -> dict[str, events_pb2.PromptRouted]:
    """Publishes the prompts and waits until each was routed."""
    wanted = {prompt.request_id for prompt in prompts}
    found: dict[str, events_pb2.PromptRouted] = {}
    async with asyncio.timeout(WAIT_S), bus.tail([topics.ROUTED]) as records:
        for prompt in prompts:
            await bus.publisher.publish(Outgoing(topics.PROMPTS, prompt.request_id, prompt))
        async for record in records:
            message = events_pb2.PromptRouted.FromString(record.value)
            if message.prompt.request_id in wanted:
                found[message.prompt.request_id] = message
            if len(found) == len(wanted):
                return found
    raise AssertionError("the topic ended")


async def test_classify_over_grpc(tmp_path: Path) -> None:
    async with running(MemoryBus(), tmp_path) as stub:
        calls = [stub.Classify(router_pb2.ClassifyRequest(prompt=text), timeout=WAIT_S) for text in PLAIN]
        decisions = [(await call).routing for call in calls]
    assert [decision.distribution[0].category for decision in decisions] == list(PLAIN.values())
    for decision in decisions:
        assert sum(score.probability for score in decision.distribution) == pytest.approx(1, abs=1e-3)
        assert decision.router_version.startswith("router-")
    assert decisions[3].language == "ja"
    assert decisions[5].language == "zh"


async def test_the_first_prompt_finds_all_read_that_it_needs(tmp_path: Path) -> None:
    for known in (language.language, language.likelihoods, language._identifier):
        known.cache_clear()
    async with running(MemoryBus(), tmp_path):
        assert language._identifier.cache_info().currsize == 1


async def test_a_prompt_that_offers_functions_is_of_that_category(tmp_path: Path) -> None:
    asked = "Turn off the lights in the kitchen."
    request = router_pb2.ClassifyRequest(prompt=asked)
    tools = [common_pb2.Tool(name="set_lights"), common_pb2.Tool(name="set_heating")]
    async with running(MemoryBus(), tmp_path) as stub:
        assert (await stub.Classify(request, timeout=WAIT_S)).routing.category == "general"
        request.tools.extend(tools)
        assert (await stub.Classify(request, timeout=WAIT_S)).routing.category == "tool-use"


async def test_conversations_empty_prompts_and_refusals_over_grpc(tmp_path: Path) -> None:
    async with running(MemoryBus(), tmp_path) as stub:
        conversation = [
            common_pb2.ChatMessage(role="user", content="Write a Python function that sorts a list of tuples."),
            common_pb2.ChatMessage(role="assistant", content="def by_second(rows): ..."),
            common_pb2.ChatMessage(role="user", content="and the other way round?"),
        ]
        request = router_pb2.ClassifyRequest(messages=conversation)
        assert (await stub.Classify(request, timeout=WAIT_S)).routing.distribution[0].category == "coding"
        empty = (await stub.Classify(router_pb2.ClassifyRequest(prompt="  "), timeout=WAIT_S)).routing
        assert (empty.category, empty.fallback_reason) == ("general", "empty_prompt")
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await stub.Classify(router_pb2.ClassifyRequest(prompt="x" * 10_001), timeout=WAIT_S)
        assert refusal.value.code() == grpc.StatusCode.INVALID_ARGUMENT


async def test_a_candidate_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    artifact, path = load(packaged()), tmp_path / "candidate.safetensors"
    first = save(path, replace(artifact, figures={"of": 1.0}))
    settings = RouterSettings(candidate=path, canary_share=1.0, reload_s=0.02)
    async with running(MemoryBus(), tmp_path, settings) as stub:

        async def version() -> str:
            answer = await stub.Classify(router_pb2.ClassifyRequest(prompt="1+1"), timeout=WAIT_S)
            return answer.routing.router_version

        assert await version() == first
        second = save(path, replace(artifact, figures={"of": 22.0}))
        async with asyncio.timeout(WAIT_S):
            while await version() != second:
                pass


@pytest.mark.kafka
async def test_prompts_on_a_real_broker(kafka_bootstrap: str, tmp_path: Path) -> None:
    bus = KafkaBus(kafka_bootstrap, source="coe/test", start_timeout_s=30)
    await bus.start()
    try:
        prompts = [events_pb2.PromptSubmitted(request_id=uuid4().hex, prompt=text) for text in PLAIN]
        async with running(KafkaBus(kafka_bootstrap, source="coe/router", start_timeout_s=30), tmp_path):
            found = await routed(bus, prompts)
    finally:
        await bus.stop()
    for prompt, category in zip(prompts, PLAIN.values(), strict=True):
        message = found[prompt.request_id]
        assert message.routing.distribution[0].category == category
        assert message.routing_s > 0
        assert message.prompt.submitted_at_ms > 0
