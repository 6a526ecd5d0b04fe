"""The worker around its loop, with in-memory fakes: good and bad prompts in, one terminal event each out."""

import asyncio

import pytest

from coe._proto import events_pb2
from coe.expert_worker.intake import MAX_ATTEMPTS
from coe.platform.errors import ChecksumMismatch, UndecodableMessage
from unit.expert_worker.worker_rig import Rig, assigned


async def test_an_answer_with_its_stream_usage_route_and_tiers() -> None:
    async with Rig().running() as rig:
        done = await rig.bus.completed(rig.bus.put(assigned("r")))
    assert (done.request_id, done.completion.text, done.completion.finish_reason) == ("r", "ttt", "length")
    assert (done.usage.prompt_tokens, done.usage.completion_tokens) == (3, 3)
    assert (done.worker, done.tiers.node, done.tiers.found_in, done.tiers.bytes_copied) == ("w", "n", "ddr", 100)
    assert (done.assignment.expert_id, done.timings.routing_s) == ("a", 0.25)
    assert done.timings.total_s >= done.timings.time_to_first_token_s > 0
    chunks = rig.bus.posted
    assert [chunk.sequence for chunk in chunks] == [0, 1, 2, 3]
    assert chunks[0].loading.tier == "ddr"
    assert "".join(chunk.text.text for chunk in chunks) == "ttt"
    assert rig.leases.held == {}


@pytest.mark.parametrize("headers", [(), (("coe-answer-type", b"application/json"),)])
async def test_an_answer_has_the_requested_content_type(headers: tuple[tuple[str, bytes], ...]) -> None:
    async with Rig().running() as rig:
        offsets = [rig.bus.put(assigned("r"), headers), rig.bus.put(assigned("s", expert="unknown"), headers)]
        for offset in offsets:
            await rig.bus.completed(offset)
    assert {one.as_json for offset in offsets for one in rig.bus.ended[offset].publish} == {bool(headers)}
    assert rig.bus.posted_as_json == [bool(headers)] * 4


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (assigned("r", expert="unknown"), "expert_not_found"),
        (assigned("r", "x" * 2000), "prompt_too_large"),
        (assigned("r", "long"), "context_exceeded"),
        (assigned("r", " "), "invalid_prompt"),
        (assigned("r", temperature=-1.0), "invalid_prompt"),
        (assigned("r", top_p=2.0), "invalid_prompt"),
        (assigned("r", max_tokens=0), "invalid_prompt"),
        (assigned("r", "boom"), "internal"),
    ],
)
async def test_a_bad_prompt_ends_with_its_error_and_stops_nothing(
    message: events_pb2.PromptAssigned, code: str
) -> None:
    async with Rig().running() as rig:
        bad = rig.bus.put(message)
        other = rig.bus.put(assigned("good", expert="b"))
        done = await rig.bus.completed(bad)
        assert (done.request_id, done.error.code) == ("r", code)
        assert done.error.message
        assert (await rig.bus.completed(other)).completion.text == "ttt"
        assert (await rig.bus.completed(rig.bus.put(assigned("again")))).completion.text == "ttt"


@pytest.mark.parametrize("value", [b"\xff\xff\xff", b"", events_pb2.PromptAssigned(prompt={"request_id": "r"})])
async def test_an_undecodable_message_is_a_dead_letter(value: bytes | events_pb2.PromptAssigned) -> None:
    async with Rig().running() as rig:
        bad = rig.bus.put(value)
        await rig.bus.completed(rig.bus.put(assigned("good")))
        await rig.bus.until(lambda: bad in rig.bus.ended)
    assert isinstance(rig.bus.ended[bad].dead_letter, UndecodableMessage)


async def test_deadlines_of_header_and_field_are_honoured() -> None:
    async with Rig().running() as rig:
        past = assigned("past")
        past.prompt.deadline_ms = 1000
        by_field = rig.bus.put(past)
        by_header = rig.bus.put(assigned("past"), headers=(("coe-deadline-ms", b"1000"),))
        for offset in (by_field, by_header):
            assert (await rig.bus.completed(offset)).error.code == "deadline_exceeded"


async def test_a_cancelled_prompt_ends_though_it_runs() -> None:
    rig = Rig()
    async with rig.running():
        long = rig.bus.put(assigned("r", max_tokens=100_000))
        await rig.bus.until(lambda: len(rig.bus.posted) > 3)
        rig.bus.cancel("r")
        assert (await rig.bus.completed(long)).error.code == "cancelled"
        assert (await rig.bus.completed(rig.bus.put(assigned("s")))).completion.text == "ttt"


async def test_prompts_of_a_revoked_partition_are_dropped() -> None:
    rig = Rig()
    async with rig.running():
        rig.bus.put(assigned("r", max_tokens=100_000))
        await rig.bus.until(lambda: len(rig.bus.posted) > 3)
        rig.bus.lost.add(0)
        assert (await rig.bus.completed(rig.bus.put(assigned("s", expert="b")))).completion.text == "ttt"
    assert set(rig.bus.ended) == {1}


async def test_no_prompt_starts_before_its_attempt_is_recorded() -> None:
    rig = Rig()
    counted = rig.bus.counting[0] = asyncio.get_running_loop().create_future()
    async with rig.running():
        first, other = (rig.bus.put(assigned(name)) for name in "rs")
        await rig.bus.completed(other)
        assert first not in rig.bus.ended
        counted.set_result(None)
        assert (await rig.bus.completed(first)).completion.text == "ttt"


async def test_an_often_redelivered_prompt_runs_alone_and_blocks_nobody_once_it_has_ended() -> None:
    rig = Rig()
    rig.bus.attempts[0] = MAX_ATTEMPTS - 1
    async with rig.running():
        rig.bus.put(assigned("r", max_tokens=100_000))
        other = rig.bus.put(assigned("s"))
        await rig.bus.until(lambda: len(rig.bus.posted) > 3)
        assert len(rig.worker.loop.held()) == 1
        rig.bus.lost.add(0)
        assert (await rig.bus.completed(other)).completion.text == "ttt"
    assert set(rig.bus.ended) == {1}


async def test_queue_depths_are_reported() -> None:
    rig = Rig()
    rig.gate.clear()
    async with rig.running():
        offset = rig.bus.put(assigned("r"))
        rig.bus.put(assigned("s", expert="b"))
        await rig.bus.until(lambda: rig.bus.posted)
        assert rig.worker.loop.depths() == {"a": 1, "b": 1}
        rig.gate.set()
        await rig.bus.completed(offset)
    assert rig.depths


async def test_echo_needs_no_lease() -> None:
    rig = Rig()
    rig.leases.refusal = ChecksumMismatch("not asked")
    async with rig.running():
        done = await rig.bus.completed(rig.bus.put(assigned("r", "one two", expert="echo")))
    assert (done.completion.text, done.usage.completion_tokens) == ("one two", 2)
