"""`coe demo`: the main path from outside. An ordinary Kafka producer writes prompts and reads back the answers."""

import asyncio
import json
import sys
from contextlib import AsyncExitStack
from typing import Annotated
from uuid import uuid4

import typer
from aiokafka import AIOKafkaProducer
from google.protobuf.json_format import MessageToDict
from rich.markup import escape
from rich.table import Table

from coe._proto import common_pb2, events_pb2
from coe.cli.answers import Answer, collect, print_answer, shorten
from coe.cli.console import err, out, print_json, say
from coe.cli.servers import quiet_logs
from coe.client.prompts import PromptClient
from coe.local.options import StackOptions
from coe.local.stack import Stack
from coe.platform import topics
from coe.platform.bus.kafka import KafkaBus

PROMPTS = {
    "code": "Write a Python function that returns the n-th Fibonacci number without recursion.",
    "maths": "A train covers 180 km in two and a half hours. What is its average speed?",
    "medicine": "What are common signs of iron deficiency, and when should somebody see a doctor about them?",
    "law": "May a landlord keep the deposit because of ordinary wear and tear?",
    "finance": "Revenue rose from 4.0 to 5.2 million dollars. By what percentage did it grow?",
    "Japanese": "日本の四季の特徴を短く説明してください。",
    "translation": "Translate into French: The library opens at nine in the morning.",
    "German": "Wie viele Minuten hat ein Tag, und wie rechnet man das aus?",
    "tool use": "Find a table for two in Lisbon tomorrow at eight with the restaurant search function.",
    "small talk": "Hi! How has your day been so far?",
    "writing": "Give me three tips for an e-mail that people answer.",
    "hard": "Prove that there are infinitely many primes of the form 4k + 3.",
    "nearly empty": "?",
    "noise": "qwz 77 lorp!! vantu eke eke",
}


def command(
    max_tokens: Annotated[int, typer.Option(min=1, help="Maximum number of tokens per answer.")] = 48,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds to wait for each answer.")] = 180.0,
    as_json: Annotated[bool, typer.Option("--json", help="One PromptCompleted per line, as JSON.")] = False,
) -> None:
    """Starts a temporary stack, sends the prompts, prints the answers and a summary, and stops everything."""
    quiet_logs()
    answers = asyncio.run(demo(max_tokens, timeout, as_json))
    if any(answer.failed for answer in answers):
        sys.exit(1)


async def demo(max_tokens: int, timeout_s: float, as_json: bool) -> list[Answer]:
    sampling = common_pb2.SamplingParams(max_tokens=max_tokens)
    prompts = [
        events_pb2.PromptSubmitted(request_id=uuid4().hex, prompt=text, sampling=sampling) for text in PROMPTS.values()
    ]
    say("starting a stack ...")
    async with AsyncExitStack() as exit_stack:
        stack = await exit_stack.enter_async_context(Stack(StackOptions(), on_step=say, on_warning=say))
        producer = AIOKafkaProducer(bootstrap_servers=stack.kafka_bootstrap)
        await exit_stack.enter_async_context(producer)

        async def produce(prompt: events_pb2.PromptSubmitted) -> None:
            body = json.dumps(MessageToDict(prompt), ensure_ascii=False).encode()
            headers = [("content-type", b"application/json")]
            await producer.send_and_wait(topics.PROMPTS, body, key=prompt.request_id.encode(), headers=headers)

        bus = KafkaBus(stack.kafka_bootstrap, source="coe/demo", start_timeout_s=30)
        await bus.start()
        exit_stack.push_async_callback(bus.stop)
        client = await exit_stack.enter_async_context(PromptClient(bus, publish=produce))
        say(f"sending {len(prompts)} prompts over Kafka ...")
        answers = []
        async for answer in collect(client, prompts, timeout_s):
            answers.append(answer)
            print_json(answer.result) if as_json else print_answer(answer)
        if not as_json:
            summarise(answers)
        err.print("stopping the stack ...")
    return answers


def summarise(answers: list[Answer]) -> None:
    table = Table(title="What answered what", title_justify="left")
    for name in ("prompt", "category", "expert", "stands in for"):
        table.add_column(name, overflow="fold")  # names are shown whole
    for name in ("confidence", "weights from", "load ms", "first token ms", "tokens", "total s"):
        table.add_column(name, justify="right")
    for kind, answer in zip(PROMPTS, answers, strict=True):
        table.add_row(kind, *row(answer))
    out.print(table)
    stand_ins = {
        answer.result.assignment.mapped_expert
        for answer in answers
        if answer.result.assignment.mapped_expert != answer.result.assignment.expert_id
    }
    if stand_ins:
        out.print(
            "The mapping was solved for "
            + ", ".join(sorted(stand_ins))
            + ". Their weights are not included: the column 'expert' names the expert that really ran, "
            "a copy of SmolLM2-135M-Instruct under its own name."
        )


def row(answer: Answer) -> tuple[str, ...]:
    result = answer.result
    if answer.failed:
        return (result.error.code, "", escape(shorten(result.error.message, 40)), *[""] * 6)
    routing, assignment, timings = result.routing, result.assignment, result.timings
    category = routing.category + (f" ({routing.fallback_reason})" if routing.fallback_reason else "")
    mapped = assignment.mapped_expert
    return (
        category,
        assignment.expert_id,
        "" if mapped == assignment.expert_id else mapped,
        f"{routing.confidence:.2f}",
        result.tiers.found_in,
        f"{timings.load_s * 1000:.1f}",
        f"{timings.time_to_first_token_s * 1000:.0f}",
        str(result.usage.completion_tokens),
        f"{timings.total_s:.2f}",
    )
