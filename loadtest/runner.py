"""Sends prompts on schedule and follows each one to its terminal event."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from coe._proto import events_pb2
from coe.client.events import Completed, Event, Text
from coe.platform.errors import CoEError
from loadtest.arrivals import Arrival, schedule
from loadtest.loadprofile import Profile
from loadtest.prompts import prompts
from loadtest.recorder import Sample

# Arrivals closer than this are sent together: waking up for each would be 10 % of the generator's work.
_TOGETHER_S = 0.004


class Transport(Protocol):
    """Submits prompts. Yields a prompt's events, ending with `Completed`; raises CoEError."""

    def submit(self, prompt: events_pb2.PromptSubmitted, *, timeout_s: float) -> AsyncIterator[Event]: ...


async def run(profile: Profile, transport: Transport, on_sample: Callable[[Sample], None]) -> list[Sample]:
    """Returns the samples of the measured phases. `on_sample` is called with each sample, including the warm-up's."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    measured: list[Sample] = []

    async def one(arrival: Arrival, prompt: events_pb2.PromptSubmitted) -> None:
        sample = await _follow(transport, prompt, arrival, start, profile.timeout_s)
        if arrival.measured:
            measured.append(sample)
        on_sample(sample)

    async with asyncio.TaskGroup() as tasks:
        asked = prompts(profile.prompts, profile.seed)
        for arrival in schedule(profile.phases, profile.seed):
            # A late generator never sends fewer prompts: overdue ones go out immediately.
            if (early := start + arrival.at_s - loop.time()) > 0:
                await asyncio.sleep(max(early, _TOGETHER_S))
            tasks.create_task(one(arrival, next(asked)))
    return measured


async def _follow(
    transport: Transport, prompt: events_pb2.PromptSubmitted, arrival: Arrival, start: float, timeout_s: float
) -> Sample:
    loop = asyncio.get_running_loop()
    due = start + arrival.at_s
    sent, first = loop.time() - due, None

    def failed(code: str, why: str) -> Sample:
        return Sample(arrival.at_s, sent, first, loop.time() - due, error=code, why=why, phase=arrival.phase)

    try:
        async for event in transport.submit(prompt, timeout_s=timeout_s):
            if isinstance(event, Text) and first is None:
                first = loop.time() - due
            elif isinstance(event, Completed):
                return _sample(event.result, arrival, sent, first, loop.time() - due)
    except CoEError as error:
        return failed(error.code, error.message)
    return failed("no terminal event", "")


def _sample(
    result: events_pb2.PromptCompleted, arrival: Arrival, sent: float, first: float | None, done: float
) -> Sample:
    timings = result.timings
    stages = {descriptor.name.removesuffix("_s"): value for descriptor, value in timings.ListFields()}
    return Sample(
        arrival.at_s,
        sent,
        first,
        done,
        error=result.error.code if result.WhichOneof("outcome") == "error" else "",
        why=result.error.message,
        expert=result.assignment.expert_id,
        category=result.routing.category,
        found_in=result.tiers.found_in,
        tokens=result.usage.completion_tokens,
        phase=arrival.phase,
        worker=result.worker,
        stages={f"service.{name}": float(value) for name, value in stages.items() if name != "total"},
    )
