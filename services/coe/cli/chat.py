"""`coe chat`: a conversation through the gateway, each turn routed on its own."""

import asyncio
import sys
from typing import Annotated

import typer

from coe._proto import common_pb2, events_pb2, gateway_pb2, gateway_pb2_grpc
from coe.cli.answers import decision
from coe.cli.console import err
from coe.cli.servers import gateway_address, stack_hint
from coe.platform.errors import CoEError, Unavailable
from coe.platform.rpc.client import bare_channel, calls

_READY_S = 5.0


def command(
    gateway: Annotated[str | None, typer.Option(help="host:port; default: the running stack's.")] = None,
    expert: Annotated[str, typer.Option(help="Talk with this expert instead of routing.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1)] = 256,
) -> None:
    """An empty line or the end of input ends the conversation."""
    try:
        asyncio.run(chat(gateway_address(gateway), expert, max_tokens))
    except Unavailable as error:
        raise Unavailable(f"{error.message}{stack_hint(gateway)}") from None


async def chat(address: str, expert: str, max_tokens: int) -> None:
    messages: list[common_pb2.ChatMessage] = []
    async with bare_channel(address) as channel:
        try:
            await asyncio.wait_for(channel.channel_ready(), _READY_S)
        except TimeoutError:
            raise Unavailable(f"no gateway answers at {address}") from None
        stub = gateway_pb2_grpc.GatewayStub(channel)
        while line := await asyncio.to_thread(ask):
            messages.append(common_pb2.ChatMessage(role="user", content=line))
            prompt = events_pb2.PromptSubmitted(
                messages=messages, expert_id=expert, sampling=common_pb2.SamplingParams(max_tokens=max_tokens)
            )
            try:
                answer = await turn(stub, prompt)
            except CoEError as error:
                err.print(f"[red]{error.code}[/red]: {error.message}")
                messages.pop()
                continue
            messages.append(common_pb2.ChatMessage(role="assistant", content=answer))


def ask() -> str:
    try:
        return input("you> ").strip()
    except EOFError:
        return ""


async def turn(stub: "gateway_pb2_grpc.GatewayAsyncStub", prompt: events_pb2.PromptSubmitted) -> str:
    """Prints one answer as it streams and returns it. Raises the prompt's CoEError."""
    answer = ""
    with calls():
        async for response in stub.Generate(gateway_pb2.GenerateRequest(prompt=prompt)):
            match response.WhichOneof("event"):
                case "routed":
                    routed = response.routed
                    routing = routed.routing
                    note = decision(routing.category, routing.confidence, routed.assignment.expert_id)
                    err.print(f"[dim]{note}[/dim]")
                case "token":
                    sys.stdout.write(response.token.text)
                    sys.stdout.flush()
                case "done":
                    answer = response.done.text
    sys.stdout.write("\n")
    return answer
