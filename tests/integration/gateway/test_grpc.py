"""The gateway over gRPC: what clients get, and what happens when they go away."""

import asyncio
from pathlib import Path

import grpc
import grpc.aio
import pytest

from coe._proto import events_pb2, gateway_pb2, gateway_pb2_grpc
from coe.client.prompts import PromptClient
from coe.gateway.keys import ApiKeys
from coe.platform import topics
from support.gateway import LIMIT, grpc_api
from support.pipeline import Pipeline


def request(prompt: str, expert: str = "") -> gateway_pb2.GenerateRequest:
    return gateway_pb2.GenerateRequest(prompt=events_pb2.PromptSubmitted(prompt=prompt, expert_id=expert))


async def test_generate_streams_the_whole_answer_in_order(stub: gateway_pb2_grpc.GatewayStub) -> None:
    responses = [response async for response in stub.Generate(request("olleh"), timeout=20)]
    kinds = [response.WhichOneof("event") for response in responses]
    assert kinds[:2] == ["accepted", "routed"]
    assert kinds[-2:] == ["usage", "done"]
    assert responses[-2].usage.cached_tokens == 1
    assert "".join(response.token.text for response in responses) == responses[-1].done.text == "hello"


@pytest.mark.parametrize(
    ("prompt", "expert", "code"),
    [
        ("hello", "missing", grpc.StatusCode.NOT_FOUND),
        ("", "", grpc.StatusCode.INVALID_ARGUMENT),
        ("x" * (LIMIT + 1), "", grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_generate_fails_with_the_status_of_the_error(
    stub: gateway_pb2_grpc.GatewayStub, prompt: str, expert: str, code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        _ = [response async for response in stub.Generate(request(prompt, expert), timeout=20)]
    assert caught.value.code() is code


async def test_a_client_that_goes_away_cancels_its_prompt(stub: gateway_pb2_grpc.GatewayStub, path: Pipeline) -> None:
    call = stub.Generate(request("hello", "silent"), timeout=20)
    accepted = (await call.read()).accepted
    call.cancel()
    assert await asyncio.wait_for(path.cancelled.get(), 10) == accepted.request_id


@pytest.mark.parametrize("expert", ["", "missing"])
async def test_a_prompt_that_has_ended_ends_the_same_when_it_is_submitted_again(
    stub: gateway_pb2_grpc.GatewayStub, path: Pipeline, expert: str
) -> None:
    async def ask(prompt: str) -> tuple[str, grpc.StatusCode]:
        asked = events_pb2.PromptSubmitted(request_id="mine", prompt=prompt, expert_id=expert)
        call = stub.Generate(gateway_pb2.GenerateRequest(prompt=asked), timeout=20)
        try:
            return [response async for response in call][-1].done.text, await call.code()
        except grpc.aio.AioRpcError as error:
            return "", error.code()

    first = await ask("olleh")
    assert first == (("", grpc.StatusCode.NOT_FOUND) if expert else ("hello", grpc.StatusCode.OK))
    published = sum(map(len, path.bus.broker.partitions(topics.PROMPTS)))
    assert await ask("olleh") == first
    assert await ask("something else") == ("", grpc.StatusCode.ALREADY_EXISTS)
    assert sum(map(len, path.bus.broker.partitions(topics.PROMPTS))) == published


async def test_streams_are_bounded(prompts: PromptClient) -> None:
    held = [prompts.submit(events_pb2.PromptSubmitted(prompt="a", expert_id="silent"), timeout_s=20) for _ in range(2)]
    waiting = [asyncio.ensure_future(anext(events)) for events in held]
    await asyncio.sleep(0)  # each has taken its place
    with pytest.raises(Exception, match="too many prompts"):
        await anext(prompts.submit(events_pb2.PromptSubmitted(prompt="b"), timeout_s=20))
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_who_has_no_key_is_refused_and_who_has_one_is_its_tenant(
    prompts: PromptClient, path: Pipeline, tmp_path: Path
) -> None:
    (tmp_path / "keys.yaml").write_text("acme: sk-1")
    keys = ApiKeys(tmp_path / "keys.yaml")
    keys.load()
    asked = request("olleh")
    asked.prompt.tenant = "labs"
    async with grpc_api(prompts, keys) as stub, path.bus.tail((topics.PROMPTS,)) as records:
        for metadata in (None, (("authorization", "Bearer sk-2"),)):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                _ = [response async for response in stub.Generate(asked, timeout=20, metadata=metadata)]
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        call = stub.Generate(asked, timeout=20, metadata=(("authorization", "Bearer sk-1"),))
        assert [response async for response in call][-1].done.text == "hello"
        assert events_pb2.PromptSubmitted.FromString((await anext(records)).value).tenant == "acme"


async def test_a_tenant_has_no_answer_of_anothers_request_id(prompts: PromptClient, tmp_path: Path) -> None:
    (tmp_path / "keys.yaml").write_text("acme: sk-1\nlabs: sk-2")
    keys = ApiKeys(tmp_path / "keys.yaml")
    keys.load()

    async with grpc_api(prompts, keys) as stub:

        async def ask(key: str, request_id: str, prompt: str) -> tuple[str, str]:
            asked = gateway_pb2.GenerateRequest(prompt=events_pb2.PromptSubmitted(request_id=request_id, prompt=prompt))
            call = stub.Generate(asked, timeout=20, metadata=(("authorization", f"Bearer {key}"),))
            accepted, *_, done = [response async for response in call]
            return accepted.accepted.request_id, done.done.text

        assert await ask("sk-1", "mine", "olleh") == ("acme/mine", "hello")
        for anothers in ("mine", "acme/mine"):
            assert await ask("sk-2", anothers, "eyb") == (f"labs/{anothers}", "bye")
        for own in ("mine", "acme/mine"):
            assert await ask("sk-1", own, "olleh") == ("acme/mine", "hello")
