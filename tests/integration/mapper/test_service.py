"""The whole service over the in-memory bus: topics in and out, gRPC, hot reload, with and without Redis."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from coe._proto import common_pb2, mapper_pb2, mapper_pb2_grpc
from coe._proto import memory_tier_manager_pb2 as tiers_pb
from coe._proto.events_pb2 import PromptAssigned, PromptCompleted, PromptRouted, PromptSubmitted
from coe.mapper.bindings import FILE_NAME, write_bindings
from coe.mapper.mapping_file import PACKAGED, load_mapping
from coe.mapper.replicas import places_of
from coe.mapper.service import MapperService
from coe.mapper.settings import MapperSettings
from coe.mapper.tenants import FILE_NAME as BUDGETS
from coe.platform import topics
from coe.platform.bus.api import Outgoing
from coe.platform.bus.memory import MemoryBroker, MemoryBus
from coe.platform.errors import ExpertNotFound
from coe.platform.residency import ResidencyPublisher, ResidencyReader
from coe.platform.rpc.client import calls, channel
from coe.platform.rpc.endpoint import Endpoint
from coe.platform.settings import CoreSettings, GrpcSettings
from tests.support.deadlines import until

NOBODY = "redis://127.0.0.1:1/0"
WAIT_S = 20.0


class Running:
    """A mapper with its tasks and gRPC server, and a bus beside it."""

    def __init__(self, broker: MemoryBroker, address: str) -> None:
        self.broker = broker
        self.bus = MemoryBus(broker)
        self.address = address

    def messages(self, topic: str) -> list[bytes]:
        return [record.value for partition in self.broker.partitions(topic) for record in partition]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not condition():
                await self.broker.change()

    async def route(self, prompt: PromptSubmitted, category: str) -> None:
        routed = PromptRouted(prompt=prompt, routing=common_pb2.RoutingDecision(category=category))
        await self.bus.publish(Outgoing(topics.ROUTED, prompt.request_id, routed))


@asynccontextmanager
async def running(home: Path, redis_url: str = NOBODY) -> AsyncIterator[Running]:
    broker = MemoryBroker()
    broker.create(topics.ASSIGNMENTS, 4)
    settings = MapperSettings(experts=frozenset({"tiny", "tiny@replica-1"}), parts=False, reload_s=0.02)
    service = MapperService(CoreSettings(home=home), settings, MemoryBus(broker), ResidencyReader(redis_url))
    endpoint = Endpoint(GrpcSettings(grace_s=0))
    names = service.register(endpoint.server)
    await service.start()
    await endpoint.start(names)
    tasks = [asyncio.create_task(task) for task in service.tasks()]
    try:
        yield Running(broker, endpoint.address)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await endpoint.stop()
        await service.stop()


@pytest.fixture
async def mapper(tmp_path: Path) -> AsyncIterator[Running]:
    write_bindings(tmp_path / FILE_NAME, {expert.name: "tiny" for expert in load_mapping(PACKAGED).pool})
    async with running(tmp_path) as started:
        yield started


async def test_prompts_are_assigned_or_end(mapper: Running) -> None:
    await mapper.route(PromptSubmitted(request_id="a", prompt="1+1"), "math")
    await mapper.route(PromptSubmitted(request_id="b", prompt="x", expert_id="nobody"), "")
    await mapper.until(lambda: bool(mapper.messages(topics.ASSIGNMENTS) and mapper.messages(topics.COMPLETIONS)))
    (assigned,) = [PromptAssigned.FromString(value) for value in mapper.messages(topics.ASSIGNMENTS)]
    assert assigned.assignment.expert_id == "tiny"
    assert assigned.assignment.mapping_version == load_mapping(PACKAGED).version
    (ended,) = [PromptCompleted.FromString(value) for value in mapper.messages(topics.COMPLETIONS)]
    assert (ended.request_id, ended.error.code) == ("b", "expert_not_found")


async def test_new_bindings_are_used_without_a_restart(mapper: Running, tmp_path: Path) -> None:
    pool = load_mapping(PACKAGED).pool
    write_bindings(tmp_path / FILE_NAME, {expert.name: "tiny@replica-1" for expert in pool})
    async with channel(mapper.address) as connection:
        stub = mapper_pb2_grpc.MapperStub(connection)
        async with asyncio.timeout(WAIT_S):
            while True:
                answer = await stub.Resolve(mapper_pb2.ResolveRequest(category="math"))
                if answer.assignment.expert_id == "tiny@replica-1":
                    break
                await asyncio.sleep(0.02)


async def test_a_tenant_s_budget_is_used_without_a_restart(mapper: Running, tmp_path: Path) -> None:
    (tmp_path / BUDGETS).write_text("acme: economy\n")
    budgets: list[str] = []
    async with asyncio.timeout(WAIT_S):
        while "economy" not in budgets:
            sent = len(budgets)
            await mapper.route(PromptSubmitted(request_id=f"r{sent}", prompt="1+1", tenant="acme"), "math")
            await mapper.until(lambda wanted=sent + 1: len(mapper.messages(topics.ASSIGNMENTS)) >= wanted)
            assigned = [PromptAssigned.FromString(value) for value in mapper.messages(topics.ASSIGNMENTS)]
            budgets = [each.assignment.budget for each in assigned]
    assert set(budgets) <= {"quality", "economy"}


async def test_resolve_names_budget_candidates_and_unknown_experts(mapper: Running) -> None:
    async with channel(mapper.address) as connection:
        stub = mapper_pb2_grpc.MapperStub(connection)
        budget = common_pb2.Budget(active_params_b=12)
        answer = await stub.Resolve(mapper_pb2.ResolveRequest(category="law", budget=budget))
        assert answer.assignment.mapped_expert == "google/gemma-2-9b-it"
        assert answer.assignment.budget == "12B"
        assert len(answer.assignment.candidates) == 5
        with pytest.raises(ExpertNotFound), calls():
            await stub.Resolve(mapper_pb2.ResolveRequest(expert_id="nobody"))


@pytest.mark.valkey
async def test_a_prompt_goes_to_the_worker_that_has_its_expert(tmp_path: Path, redis_url: str) -> None:
    write_bindings(tmp_path / FILE_NAME, {expert.name: "tiny" for expert in load_mapping(PACKAGED).pool})
    home, *_, other = (place.worker for place in places_of("tiny", 4, {number: str(number) for number in range(4)}))
    epoch = time.time_ns() // 1_000_000
    reader = ResidencyReader(redis_url)

    async def all_published() -> bool:
        nodes = (await reader.snapshot()).nodes
        return all((node := nodes.get(f"node-{n}")) and node.experts and node.queues for n in range(4))

    async with AsyncExitStack() as stack:
        stack.push_async_callback(reader.close)
        for worker in map(str, range(4)):
            publisher = await stack.enter_async_context(ResidencyPublisher(redis_url, f"node-{worker}", epoch))
            publisher.publish_queue(f"worker-{worker}", {}, {int(worker)})
            if worker == other:
                publisher.publish(
                    tiers_pb.ExpertResidency(
                        expert_id="tiny", tier=tiers_pb.TIER_HBM, state=tiers_pb.RESIDENCY_STATE_RESIDENT
                    )
                )
            else:
                publisher.publish(tiers_pb.ExpertResidency(expert_id="another", tier=tiers_pb.TIER_DISK))
        # All of it is there before the mapper begins: who went elsewhere by half a view draws others there.
        await until(all_published)
        mapper = await stack.enter_async_context(running(tmp_path, redis_url))

        async def partition(request_id: str) -> int:
            await mapper.route(PromptSubmitted(request_id=request_id, prompt="1+1"), "math")
            found: list[int] = []

            def assigned() -> bool:
                found.extend(
                    number
                    for number, records in enumerate(mapper.broker.partitions(topics.ASSIGNMENTS))
                    if any(PromptAssigned.FromString(one.value).prompt.request_id == request_id for one in records)
                )
                return bool(found)

            await mapper.until(assigned)
            return found[0]

        assert home != other
        async with asyncio.timeout(WAIT_S):
            # The first ones may come before the mapper has seen anything: those aren't counted, and draw nobody.
            for number in itertools.count():
                if await partition(f"r{number}") == int(other):
                    break
                await asyncio.sleep(0.05)
        assert {await partition(f"later-{number}") for number in range(5)} == {int(other)}
