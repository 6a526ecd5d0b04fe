"""Follows prompts and shows their answers: streamed for one, in submission order for many."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from rich.markup import escape

from coe._proto import common_pb2, events_pb2
from coe.cli.console import err, out
from coe.cli.streamed import Streamed
from coe.client.events import Completed, Loading, Routed, Text
from coe.client.prompts import PromptClient
from coe.platform.errors import CoEError


@dataclass
class Answer:
    """A prompt and its terminal event."""

    prompt: events_pb2.PromptSubmitted
    result: events_pb2.PromptCompleted = field(default_factory=events_pb2.PromptCompleted)

    @property
    def failed(self) -> bool:
        return self.result.WhichOneof("outcome") != "completion"


async def collect(
    client: PromptClient, prompts: Sequence[events_pb2.PromptSubmitted], timeout_s: float, *, at_once: int = 64
) -> AsyncIterator[Answer]:
    """Submits all prompts, at most `at_once` concurrently, and yields their answers in the same order."""
    slots = asyncio.Semaphore(at_once)

    async def one(prompt: events_pb2.PromptSubmitted) -> Answer:
        async with slots:
            return await follow(client, prompt, timeout_s)

    async with asyncio.TaskGroup() as group:
        for task in [group.create_task(one(prompt)) for prompt in prompts]:
            yield await task


async def follow(client: PromptClient, prompt: events_pb2.PromptSubmitted, timeout_s: float) -> Answer:
    """Waits for the terminal event. If the client fails or times out, the answer carries that error."""
    answer = Answer(prompt)
    try:
        async with aclosing(client.submit(prompt, timeout_s=timeout_s)) as events:
            async for event in events:
                if isinstance(event, Completed):
                    answer.result = event.result
    except CoEError as error:
        answer.result.request_id = prompt.request_id
        answer.result.error.CopyFrom(error.to_proto())
    return answer


async def print_streaming(client: PromptClient, prompt: events_pb2.PromptSubmitted, timeout_s: float) -> Answer:
    """Prints the answer to stdout and everything about it to stderr."""
    answer, streamed = Answer(prompt), Streamed()
    try:
        async with aclosing(client.submit(prompt, timeout_s=timeout_s)) as events:
            async for event in events:
                match event:
                    case Routed(routing, assignment):
                        err.print(f"[dim]{decision(routing.category, routing.confidence, assignment.expert_id)}[/dim]")
                    case Loading(expert_id, tier):
                        err.print(f"[dim]loading {escape(expert_id)} from {tier}[/dim]")
                    case Text(text, attempt):
                        streamed.add(text, attempt)
                    case Completed(result):
                        answer.result = result
    finally:
        streamed.end(None if answer.failed else answer.result.completion.text)
    if answer.failed:
        err.print(trouble(answer.result.error))
    else:
        err.print(f"[dim]{figures(answer.result)}[/dim]")
    return answer


def print_answer(answer: Answer) -> None:
    result = answer.result
    out.rule(f"[bold]{escape(shorten(question(answer.prompt)))}[/bold]", align="left", style="dim")
    if answer.failed:
        out.print(trouble(result.error))
        return
    routing = result.routing
    out.print(f"[dim]{decision(routing.category, routing.confidence, result.assignment.expert_id)}[/dim]")
    if result.completion.text or not result.completion.tool_calls:
        out.print(result.completion.text, markup=False, soft_wrap=True)
    for call in result.completion.tool_calls:
        out.print(f"calls {call.name} {call.arguments}", markup=False, soft_wrap=True)
    out.print(f"[dim]{figures(result)}[/dim]")


# The functions below return rich markup, so untrusted text is escaped.


def trouble(error: common_pb2.Error | CoEError) -> str:
    return f"[red]{error.code}[/red]: {escape(error.message)}"


def decision(category: str, confidence: float, expert_id: str) -> str:
    routed = f"{escape(category)} ({confidence:.0%})" if category else "not routed"
    return f"{routed} -> {escape(expert_id)}"


def figures(result: events_pb2.PromptCompleted) -> str:
    timings, usage, tiers = result.timings, result.usage, result.tiers
    rate = max(usage.completion_tokens - 1, 0) / timings.decode_s if timings.decode_s else 0.0
    return (
        f"{usage.completion_tokens} tokens, first after {timings.time_to_first_token_s * 1000:.0f} ms, "
        f"then {rate:.0f} tokens/s; weights from {tiers.found_in} "
        f"({tiers.bytes_copied / 2**20:.0f} MiB copied, waited {timings.load_s * 1000:.1f} ms)"
    )


def question(prompt: events_pb2.PromptSubmitted) -> str:
    return prompt.prompt or (prompt.messages[-1].content if prompt.messages else "")


def shorten(text: str, width: int = 72) -> str:
    line = " ".join(text.split())
    return line if len(line) <= width else line[: width - 1] + "…"
