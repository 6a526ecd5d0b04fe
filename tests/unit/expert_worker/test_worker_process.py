"""The worker around its loop, on ports in memory: good and bad prompts in, one terminal event each out."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from coe._proto import events_pb2
from coe.expert_worker import echo, resident
from coe.expert_worker.effects import Residency
from coe.expert_worker.expected import Expected
from coe.expert_worker.intake import MAX_ATTEMPTS
from coe.expert_worker.loop import WorkerLoop
from coe.expert_worker.outcome import Identity
from coe.expert_worker.runners import Runners
from coe.expert_worker.worker import Worker
from coe.platform import topics
from coe.platform.bus.api import Subscription
from coe.platform.errors import ChecksumMismatch, ExpertNotFound, UndecodableMessage
from coe.scheduling import Exponential, LearnedCosts, make_policy
from support.deadlines import until_true
from unit.expert_worker.worker_fakes import WAIT_S, FakeBus, FakeLeases, FakeRunner, Panic


@dataclass
class Rig:
    bus: FakeBus = field(default_factory=FakeBus)
    leases: FakeLeases = field(default_factory=FakeLeases)
    gate: threading.Event = field(default_factory=threading.Event)
    runners: dict[str, FakeRunner] = field(default_factory=dict)
    depths: list[Mapping[str, int]] = field(default_factory=list)
    begin_after_s: float = 0.0
    worker: Worker = field(init=False)

    def __post_init__(self) -> None:
        self.gate.set()
        expected = Expected(LearnedCosts(lambda _: 10, 2), Exponential(), 2)
        self.worker = Worker(
            self.bus,  # type: ignore[arg-type]
            echo.LeasesWithEcho(self.leases),
            Runners(self._make),
            WorkerLoop(make_policy("lookahead"), expected, max_batch=2),
            Identity("w", "n"),
            Subscription(topics.ASSIGNMENTS, "g"),
            known=self._known,
            on_queue=lambda depths, partitions: self.depths.append(depths),
            max_prompt_bytes=1000,
            begin_after_s=self.begin_after_s,
        )

    def _make(self, expert_id: str) -> FakeRunner | echo.EchoRunner:
        if expert_id == "echo":
            return echo.EchoRunner()
        self.runners[expert_id] = FakeRunner(self.gate)
        return self.runners[expert_id]

    def _known(self, expert_id: str) -> str:
        if expert_id == "unknown":
            raise ExpertNotFound("no expert 'unknown' is hosted here")
        return ""

    @asynccontextmanager
    async def running(self) -> AsyncIterator["Rig"]:
        task = asyncio.create_task(self.worker.run())
        try:
            yield self
        finally:
            self.gate.set()
            await self.worker.drain(WAIT_S)
            await task


def assigned(request_id: str, text: str = "hi", expert: str = "a", **sampling: object) -> events_pb2.PromptAssigned:
    message = events_pb2.PromptAssigned(assignment={"expert_id": expert}, routing_s=0.25)
    message.prompt.request_id, message.prompt.prompt = request_id, text
    message.prompt.submitted_at_ms = time.time_ns() // 1_000_000
    for name, value in {"max_tokens": 3, **sampling}.items():
        setattr(message.prompt.sampling, name, value)
    return message


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
async def test_an_answer_comes_in_the_form_that_was_asked_for(headers: tuple[tuple[str, bytes], ...]) -> None:
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


async def test_a_damaged_bundle_ends_the_prompts_of_that_expert() -> None:
    rig = Rig()
    rig.leases.refusal = ChecksumMismatch("weights.coe is damaged")
    async with rig.running():
        assert (await rig.bus.completed(rig.bus.put(assigned("r")))).error.code == "checksum_mismatch"
        rig.leases.refusal = None
        assert (await rig.bus.completed(rig.bus.put(assigned("s")))).completion.text == "ttt"


async def put_stuck(rig: Rig) -> int:
    """A prompt whose lease is waited for."""
    stuck = rig.bus.put(assigned("r"))
    async with asyncio.timeout(WAIT_S):
        await until_true(lambda: rig.leases.waiting)
    return stuck


async def test_the_lease_of_a_cancelled_prompt_is_not_waited_for() -> None:
    rig = Rig()
    rig.leases.stuck.add("a")
    async with rig.running():
        stuck = await put_stuck(rig)
        other = rig.bus.put(assigned("other", expert="b"))
        rig.bus.cancel("r")
        assert (await rig.bus.completed(stuck)).error.code == "cancelled"
        assert (await rig.bus.completed(other)).completion.text == "ttt"
        assert not rig.leases.waiting
    assert rig.leases.held == {}


async def test_an_expert_whose_disk_hangs_keeps_nobody_else_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resident, "LATE_S", 0.05)
    rig = Rig()
    rig.leases.stuck.add("a")
    async with rig.running():
        stuck = await put_stuck(rig)
        rig.worker.residency_changed("a", 10, Residency.LOADING)
        for number in range(3):
            other = rig.bus.put(assigned(f"other-{number}", expert="b"))
            assert (await rig.bus.completed(other)).completion.text == "ttt"
        assert stuck not in rig.bus.ended
        rig.leases.stuck.clear()
        rig.bus.put(assigned("last", expert="b"))
        assert (await rig.bus.completed(stuck)).completion.text == "ttt"
    assert rig.leases.held == {}


async def test_a_cancelled_prompt_ends_though_it_runs() -> None:
    rig = Rig()
    async with rig.running():
        long = rig.bus.put(assigned("r", max_tokens=100_000))
        await rig.bus.until(lambda: len(rig.bus.posted) > 3)
        rig.bus.cancel("r")
        assert (await rig.bus.completed(long)).error.code == "cancelled"
        assert (await rig.bus.completed(rig.bus.put(assigned("s")))).completion.text == "ttt"


async def test_prompts_of_a_lost_partition_are_given_up() -> None:
    rig = Rig()
    async with rig.running():
        rig.bus.put(assigned("r", max_tokens=100_000))
        await rig.bus.until(lambda: len(rig.bus.posted) > 3)
        rig.bus.lost.add(0)
        assert (await rig.bus.completed(rig.bus.put(assigned("s", expert="b")))).completion.text == "ttt"
    assert set(rig.bus.ended) == {1}


async def test_nothing_begins_before_its_hand_out_is_counted() -> None:
    rig = Rig(begin_after_s=3600.0)
    async with rig.running():
        rig.bus.put(assigned("r"))
        await until_true(lambda: rig.worker.loop.held())
        seen = len(rig.depths)
        await until_true(lambda: len(rig.depths) > seen + 1)
        assert rig.worker.loop.batch is None
    assert rig.bus.ended == {}


async def test_who_came_back_often_runs_alone_and_holds_nobody_up_once_it_is_gone() -> None:
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


async def test_drain_ends_what_runs_and_hands_back_what_waits() -> None:
    rig = Rig()
    task = asyncio.create_task(rig.worker.run())
    rig.gate.clear()
    running = rig.bus.put(assigned("r"))
    waiting = rig.bus.put(assigned("s", expert="b"))
    # Its chunk says that the first prompt is in the engine, which waits at the gate; the second was posted before.
    await rig.bus.until(lambda: rig.bus.posted)
    draining = asyncio.create_task(rig.worker.drain(WAIT_S))
    await asyncio.sleep(0)
    rig.gate.set()
    assert await draining == 1
    await task
    assert running in rig.bus.ended
    assert waiting not in rig.bus.ended
    assert rig.leases.held == {}


async def test_a_drain_without_grace_gives_up_what_runs() -> None:
    rig = Rig()
    task = asyncio.create_task(rig.worker.run())
    rig.bus.put(assigned("r", max_tokens=100_000))
    await rig.bus.until(lambda: rig.bus.posted)
    await rig.worker.drain(0.0)
    await task
    assert rig.bus.ended == {}


async def test_an_arena_is_bound_between_steps_and_old_leases_are_not_used_in_it() -> None:
    rig = Rig()
    bound: list[int] = []
    async with rig.running():
        rig.worker.attached(1, "host", lambda: None)
        offset = rig.bus.put(assigned("r", max_tokens=50))
        await rig.bus.until(lambda: len(rig.bus.posted) > 3)
        rig.leases.epoch = 2
        rig.worker.attached(2, "host", lambda: bound.extend(rig.runners["a"].leases))
        done = await rig.bus.completed(offset)
    leases = rig.runners["a"].leases
    assert done.completion.text == "t" * 50
    assert leases[: len(bound)] == [1] * len(bound)
    assert set(leases[len(bound) :]) == {2}
    assert done.tiers.tier_profile == "host"


async def test_queue_depths_are_told() -> None:
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


async def test_a_failure_of_the_bus_ends_the_worker() -> None:
    rig = Rig()

    async def fail(record: object, outcome: object) -> bool:
        raise ConnectionError("gone")

    rig.bus.complete = fail  # type: ignore[assignment]
    rig.bus.put(assigned("r"))
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(ConnectionError):
            await rig.worker.run()


async def test_what_the_engine_can_t_survive_ends_the_worker() -> None:
    """A panic of a library is no Exception; a worker that waited for its step would be silent for ever."""
    rig = Rig()
    rig.bus.put(assigned("r", "panic"))
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(Panic):
            await rig.worker.run()


async def test_a_cancellation_that_comes_out_of_the_bus_ends_the_worker() -> None:
    rig = Rig()

    async def cancelled(record: object, outcome: object) -> bool:
        raise asyncio.CancelledError

    rig.bus.complete = cancelled  # type: ignore[assignment]
    rig.bus.put(assigned("r"))
    async with asyncio.timeout(WAIT_S):
        with pytest.raises(RuntimeError, match="cancelled from within"):
            await rig.worker.run()
