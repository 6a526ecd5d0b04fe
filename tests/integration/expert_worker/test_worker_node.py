"""Real experts in real processes: tier manager and workers on a real broker, generating through the custom ops."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import grpc.aio
import pytest

from coe._proto import expert_worker_pb2, expert_worker_pb2_grpc
from coe.experts.bundle import MANIFEST, WEIGHTS, Bundle
from coe.experts.catalogue import Catalogue
from coe.experts.conversation import Conversation
from coe.experts.sampling_params import SamplingParams
from coe.experts.single import Hosted
from support.experts import import_gguf
from support.gguf_files import TinyModel, write_tiny_gguf
from support.worker_node import Ledger, WorkerNode, following, replicas

pytestmark = [pytest.mark.kafka, pytest.mark.model, pytest.mark.timeout(300)]
WAIT_S = 120.0
QUESTIONS = ("What is the capital of France?", "Name a colour.", "What is two plus two?", "Say hello in Spanish.")


@pytest.fixture
async def node(kafka_bootstrap: str, smollm2_bundle: Bundle, tmp_path: Path) -> AsyncIterator[WorkerNode]:
    """Room for two experts in HBM, more experts than that."""
    hbm_bytes = int(2.5 * smollm2_bundle.weights_bytes)
    node = WorkerNode(kafka_bootstrap, smollm2_bundle.path.parent, tmp_path, workers=1, hbm_bytes=hbm_bytes)
    async with node.running():
        yield node


def all_ended(wanted: set[str]) -> Callable[[Ledger], bool]:
    return lambda ledger: wanted <= set(ledger.ends)


async def test_answers_of_more_experts_than_hbm_holds(node: WorkerNode, smollm2_bundle: Bundle) -> None:
    experts = replicas(smollm2_bundle, 3)
    async with following(node.bootstrap) as client:
        sent = {await client.send(expert, text): (expert, text) for text in QUESTIONS[:3] for expert in experts}
        await client.until(all_ended(set(sent)), WAIT_S)
        ledger = client.ledger
    assert all(ledger.ends[request_id] == 1 for request_id in sent)
    answers: dict[str, set[str]] = {}
    for request_id, (expert, text) in sent.items():
        result = ledger.results[request_id]
        assert result.assignment.expert_id == expert
        assert not result.HasField("error"), result.error.message
        assert result.usage.prompt_tokens > 10
        assert 0 < result.usage.completion_tokens <= 16
        assert ledger.text(request_id) in ("", result.completion.text)
        answers.setdefault(text, set()).add(result.completion.text)
    # The same weights and greedy decoding: every copy says the same, whatever shared its batch.
    assert all(len(found) == 1 for found in answers.values())
    assert all(text.strip() for found in answers.values() for text in found)
    # The first batch waited for its weights; those of the others may have been prefetched meanwhile.
    assert any(ledger.results[request_id].tiers.bytes_copied == smollm2_bundle.weights_bytes for request_id in sent)
    assert {ledger.results[request_id].tiers.found_in for request_id in sent} <= {"hbm", "ddr", "disk"}


async def test_an_expert_that_is_imported_anew_answers_with_its_new_weights(
    kafka_bootstrap: str, tmp_path: Path
) -> None:
    """Of the same size, and with another chat template, while its former weights still generate."""
    experts = tmp_path / "bundles"
    question = "hello"

    def imported(seed: int) -> Bundle:
        return import_gguf(write_tiny_gguf(tmp_path / f"{seed}.gguf", TinyModel(seed=seed)), experts, "tiny")

    def alone(bundle: Bundle) -> str:
        with Hosted.load(bundle, threads=1) as hosted:
            hosted.runner.add("r", Conversation.of(question), SamplingParams(max_tokens=16))
            while True:
                for emission in hosted.runner.step(hosted.lease):
                    if emission.finish_reason is not None:
                        return emission.final_text

    former = imported(1)
    expected = [alone(former)]
    node = WorkerNode(kafka_bootstrap, experts, tmp_path / "node", workers=1, hbm_bytes=8 << 20)
    async with node.running(), following(node.bootstrap) as client:
        first = await client.send("tiny", question)
        await client.until(all_ended({first}), WAIT_S)
        running = await client.send("tiny", "go on", max_tokens=200)
        await client.until(lambda ledger: ledger.chunks.get(running), WAIT_S)
        Catalogue(experts).remove("tiny")
        bundle = imported(2)
        expected.append(alone(bundle))
        second = await client.send("tiny", question)
        await client.until(all_ended({running, second}), WAIT_S)
    results = client.ledger.results
    assert [results[request].completion.text for request in (first, second)] == expected
    assert expected[0] != expected[1]
    assert bundle.weights_bytes == former.weights_bytes
    assert not results[running].HasField("error"), results[running].error.message


async def test_a_prompt_longer_than_the_context_is_the_only_one_that_fails(
    node: WorkerNode, smollm2_bundle: Bundle
) -> None:
    async with following(node.bootstrap) as client:
        long = await client.send(smollm2_bundle.id, "word " * 20_000)
        good = await client.send(smollm2_bundle.id, QUESTIONS[0])
        await client.until(all_ended({long, good}), WAIT_S)
    assert client.ledger.results[long].error.code == "context_exceeded"
    assert client.ledger.results[good].completion.text


async def test_damaged_weights_are_found_when_they_load_and_end_that_expert_s_prompts_only(
    node: WorkerNode, smollm2_bundle: Bundle
) -> None:
    damaged = damaged_copy(smollm2_bundle)
    try:
        async with following(node.bootstrap) as client:
            bad = await client.send(damaged, QUESTIONS[0])
            good = await client.send(smollm2_bundle.id, QUESTIONS[0])
            await client.until(all_ended({bad, good}), WAIT_S)
    finally:
        shutil.rmtree(smollm2_bundle.path.parent / damaged)
    assert client.ledger.results[bad].error.code == "checksum_mismatch"
    assert client.ledger.results[good].completion.text


def damaged_copy(bundle: Bundle) -> str:
    """A bundle with one wrong byte in the last chunk of its weights."""
    name = f"{bundle.id}@damaged"
    target = bundle.path.parent / name
    shutil.copytree(bundle.path, target)
    manifest = target / MANIFEST
    manifest.write_text(manifest.read_text().replace(f'"{bundle.id}"', f'"{name}"', 1))
    with (target / WEIGHTS).open("r+b") as weights:
        weights.seek(bundle.weights_bytes - 1)
        last = weights.read(1)
        weights.seek(bundle.weights_bytes - 1)
        weights.write(bytes([last[0] ^ 1]))
    return name


async def test_a_worker_killed_in_the_middle_loses_nothing_and_answers_nothing_twice(
    node: WorkerNode, smollm2_bundle: Bundle
) -> None:
    experts = replicas(smollm2_bundle, 3)
    async with following(node.bootstrap) as client:
        sent = {await client.send(expert, text, max_tokens=32) for text in QUESTIONS[:3] for expert in experts}
        await client.until(lambda ledger: len(ledger.ends) >= 1 and len(ledger.chunks) > len(ledger.ends), WAIT_S)
        await node.restart(node.workers[0])
        await client.until(all_ended(sent), WAIT_S)
        # A second event for one of them would have been committed before the last one's.
        extra = await client.send(experts[0], QUESTIONS[0])
        await client.until(all_ended({extra}), WAIT_S)
    ledger = client.ledger
    assert all(ledger.ends[request_id] == 1 for request_id in sent)
    assert not [result.error for result in ledger.results.values() if result.HasField("error")]
    repeated = [result for result in ledger.results.values() if result.attempt]
    assert repeated, "what was running came again, with a new attempt number"


async def test_a_killed_tier_manager_comes_back_and_every_prompt_is_answered(
    node: WorkerNode, smollm2_bundle: Bundle
) -> None:
    experts = replicas(smollm2_bundle, 3)
    async with following(node.bootstrap) as client:
        sent = {await client.send(expert, text, max_tokens=32) for text in QUESTIONS[:3] for expert in experts}
        await client.until(lambda ledger: len(ledger.chunks) >= 1, WAIT_S)
        await node.restart(node.manager)
        await client.until(all_ended(sent), WAIT_S)
    assert all(client.ledger.ends[request_id] == 1 for request_id in sent)
    errors = {result.error.message for result in client.ledger.results.values() if result.HasField("error")}
    assert not errors


async def test_the_grpc_service_lists_experts_and_drains(node: WorkerNode, smollm2_bundle: Bundle) -> None:
    async with (
        following(node.bootstrap) as client,
        grpc.aio.insecure_channel(node.workers[0].spec.address) as channel,
    ):
        stub = expert_worker_pb2_grpc.ExpertWorkerStub(channel)
        listed = await stub.ListExperts(expert_worker_pb2.ListExpertsRequest())
        assert smollm2_bundle.id in {expert.expert_id for expert in listed.experts}
        running = await client.send(smollm2_bundle.id, QUESTIONS[0], max_tokens=64)
        await client.until(lambda ledger: running in ledger.chunks, WAIT_S)
        drained = await stub.Drain(expert_worker_pb2.DrainRequest(), timeout=WAIT_S)
        assert drained.finished == 1
        late = await client.send(smollm2_bundle.id, QUESTIONS[1])
        await client.until(all_ended({running}), WAIT_S)
        assert late not in client.ledger.ends
        await node.workers[0].stop()
        await node.workers[0].start()
        await client.until(all_ended({late}), WAIT_S)
    assert client.ledger.ends[running] == client.ledger.ends[late] == 1


async def test_shutdown_hands_back_what_is_not_finished(node: WorkerNode, smollm2_bundle: Bundle) -> None:
    async with following(node.bootstrap) as client:
        sent = {await client.send(smollm2_bundle.id, f"{text} Explain.", max_tokens=100) for text in QUESTIONS[:2]}
        await client.until(lambda ledger: len(ledger.chunks) >= 1, WAIT_S)
        await asyncio.wait_for(node.workers[0].stop(), 30)
        await node.workers[0].start()
        await client.until(all_ended(sent), WAIT_S)
    assert all(client.ledger.ends[request_id] == 1 for request_id in sent)
