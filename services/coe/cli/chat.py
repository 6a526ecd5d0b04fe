"""`coe chat`: a conversation through the gateway. Each turn is routed separately."""

import asyncio
import sys
from typing import Annotated
from uuid import uuid4

import grpc.aio
import typer

from coe._proto import common_pb2, events_pb2, gateway_pb2, gateway_pb2_grpc
from coe.cli.answers import decision, trouble
from coe.cli.asked import MaxTokens, utf8
from coe.cli.console import err
from coe.cli.servers import gateway_address, stack_hint
from coe.cli.streamed import Streamed
from coe.platform.errors import CoEError, InvalidPrompt, Unavailable
from coe.platform.rpc.client import bare_channel, calls, tls_trouble

_READY_S = 5.0
Metadata = tuple[tuple[str, str], ...]


def command(
    gateway: Annotated[str | None, typer.Option(help="host:port. Default: the running stack's.")] = None,
    expert: Annotated[str, typer.Option(help="Chat with this expert instead of routing.")] = "",
    max_tokens: MaxTokens = None,
    api_key: Annotated[str, typer.Option(envvar="COE_API_KEY", help="API key, if the gateway requires one.")] = "",
) -> None:
    """End the conversation with an empty line, end of input or Ctrl-C."""
    utf8(expert, "--expert")
    sampling = common_pb2.SamplingParams(max_tokens=max_tokens)
    # Turns of one conversation go to the same worker if possible, which has the earlier turns cached.
    first = events_pb2.PromptSubmitted(expert_id=expert, sampling=sampling, conversation_id=uuid4().hex)
    with asyncio.Runner() as runner:
        channel = runner.run(connected(gateway_address(gateway), stack_hint(gateway)))
        try:
            converse(runner, gateway_pb2_grpc.GatewayStub(channel), first, authorization(api_key))
        finally:
            runner.run(channel.close())


def authorization(api_key: str) -> Metadata:
    """Raises InvalidPrompt for something that cannot be a key."""
    if not (api_key.isascii() and api_key.isprintable()):
        raise InvalidPrompt("the API key has characters that are not allowed in a header")
    return (("authorization", f"Bearer {api_key}"),) if api_key else ()


def converse(
    runner: asyncio.Runner,
    stub: "gateway_pb2_grpc.GatewayAsyncStub",
    first: events_pb2.PromptSubmitted,
    metadata: Metadata,
) -> None:
    """Reads input outside the event loop, so that Ctrl-C interrupts a pending read.

    `first`: the fields that every prompt has besides its messages.
    """
    messages: list[common_pb2.ChatMessage] = []
    while line := ask():
        messages.append(common_pb2.ChatMessage(role="user", content=line))
        prompt = events_pb2.PromptSubmitted(messages=messages)
        prompt.MergeFrom(first)
        try:
            answer = runner.run(turn(stub, prompt, metadata))
        except CoEError as error:
            err.print(trouble(error))
            messages.pop()
            continue
        messages.append(common_pb2.ChatMessage(role="assistant", content=answer))


async def connected(address: str, hint: str) -> grpc.aio.Channel:
    channel = bare_channel(address)
    try:
        await asyncio.wait_for(channel.channel_ready(), _READY_S)
    except TimeoutError:
        await channel.close()
        why = await tls_trouble(address)
        raise Unavailable(f"no gateway answers at {address}{f': {why}' if why else hint}") from None
    return channel


def ask() -> str:
    """The next line typed; empty at end of input."""
    while True:
        try:
            return utf8(input("you> "), "the input").strip()
        except (InvalidPrompt, UnicodeDecodeError):
            err.print(trouble(InvalidPrompt("what was typed is not UTF-8 text")))
        except EOFError:
            # No Enter was pressed, so the shell's prompt would land on our line.
            sys.stdout.write("\n")
            return ""


async def turn(
    stub: "gateway_pb2_grpc.GatewayAsyncStub", prompt: events_pb2.PromptSubmitted, metadata: Metadata
) -> str:
    """Prints one answer and returns it. Raises the prompt's CoEError."""
    answer: str | None = None
    streamed = Streamed()
    try:
        with calls():
            async for response in stub.Generate(gateway_pb2.GenerateRequest(prompt=prompt), metadata=metadata):
                match response.WhichOneof("event"):
                    case "routed":
                        routed = response.routed
                        routing = routed.routing
                        note = decision(routing.category, routing.confidence, routed.assignment.expert_id)
                        err.print(f"[dim]{note}[/dim]")
                    case "token":
                        streamed.add(response.token.text, response.token.attempt)
                    case "done":
                        answer = response.done.text
    finally:
        streamed.end(answer)
    return answer or ""
