"""The command line and the gateway against a running stack, as a user meets them."""

import json
import signal
import subprocess
import sys
import time
from contextlib import suppress

import grpc
import httpx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from coe._proto import events_pb2, gateway_pb2, gateway_pb2_grpc
from support.stack import RunningStack

pytestmark = [pytest.mark.stack, pytest.mark.timeout(400)]


def test_submit_streams_an_answer_and_says_who_gave_it(stack: RunningStack) -> None:
    done = stack.coe("submit", "What is two plus two?", "--max-tokens", "8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "smollm2-135m" in done.stderr


def test_submit_of_a_file_prints_one_json_object_a_prompt(stack: RunningStack) -> None:
    file = stack.home / "prompts.jsonl"
    lines = [{"prompt": f"Say {n}.", "sampling": {"max_tokens": 4}} for n in range(4)]
    file.write_text("\n".join(json.dumps(line) for line in lines))
    done = stack.coe("submit", "--file", str(file), "--json")
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 4
    assert all(result["completion"]["finish_reason"] for result in results)


def test_submit_of_an_unknown_expert_fails_with_its_code(stack: RunningStack) -> None:
    done = stack.coe("submit", "Hello", "--expert", "no-such-expert", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == "expert_not_found"


def test_chat_answers_turn_by_turn_and_ends_with_the_input(stack: RunningStack) -> None:
    done = stack.coe("chat", "--max-tokens", "6", typed="Name a colour.\nName another.\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("you> ") == 3
    assert done.stderr.count("-> smollm2-135m") == 2


def test_ctrl_c_ends_a_chat_that_waits_for_a_question(stack: RunningStack) -> None:
    command = [sys.executable, "-m", "coe.cli.main", "chat"]
    with subprocess.Popen(
        command, env=stack.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as chat:
        assert chat.stdout is not None
        assert chat.stdout.read(5) == b"you> "
        deadline = time.monotonic() + 60
        while chat.poll() is None and time.monotonic() < deadline:
            # Again, as people do: one that comes just before the read of the question begins is heard after it.
            chat.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                chat.wait(1)
        assert chat.poll() == 130


def test_grpc_generate_streams_accepted_routed_tokens_usage_done(stack: RunningStack) -> None:
    prompt = events_pb2.PromptSubmitted(prompt="Name a colour.")
    prompt.sampling.max_tokens = 6
    with grpc.insecure_channel(stack.state["gateway"]) as channel:
        stub = gateway_pb2_grpc.GatewayStub(channel)
        responses = list(stub.Generate(gateway_pb2.GenerateRequest(prompt=prompt), timeout=60))
    kinds = [response.WhichOneof("event") for response in responses]
    assert kinds[:2] == ["accepted", "routed"]
    assert kinds[-2:] == ["usage", "done"]
    text = "".join(response.token.text for response in responses)
    assert text == responses[-1].done.text


def test_grpc_errors_are_rich(stack: RunningStack) -> None:
    prompt = events_pb2.PromptSubmitted(prompt="Hello", expert_id="no-such-expert")
    with grpc.insecure_channel(stack.state["gateway"]) as channel:
        stub = gateway_pb2_grpc.GatewayStub(channel)
        with pytest.raises(grpc.RpcError) as caught:
            list(stub.Generate(gateway_pb2.GenerateRequest(prompt=prompt), timeout=60))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert b"expert_not_found" in dict(caught.value.trailing_metadata())["grpc-status-details-bin"]


def test_every_service_has_health_and_reflection(stack: RunningStack) -> None:
    names = {}
    for service in stack.state["services"].values():
        with grpc.insecure_channel(service["grpc"]) as channel:
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert health.status == health_pb2.HealthCheckResponse.SERVING
            names[service["grpc"]] = set(ProtoReflectionDescriptorDatabase(channel).get_services())
    ours = {"coe.v1.Router", "coe.v1.Mapper", "coe.v1.MemoryTierManager", "coe.v1.ExpertWorker", "coe.v1.Gateway"}
    assert ours <= set().union(*names.values())


def test_openai_clients_get_answers_models_and_errors(stack: RunningStack) -> None:
    messages = [{"role": "user", "content": "Name a city."}]
    with httpx.Client(base_url=f"http://{stack.state['gateway_http']}", timeout=60) as client:
        answer = client.post("/v1/chat/completions", json={"messages": messages, "max_tokens": 6})
        assert answer.status_code == 200, answer.text
        assert answer.json()["choices"][0]["message"]["content"]
        assert answer.headers["x-coe-expert"] == answer.json()["model"]
        models = [model["id"] for model in client.get("/v1/models").json()["data"]]
        assert answer.json()["model"] in models
        assert "coe-auto" in models
        missing = client.post("/v1/chat/completions", json={"model": "no-such-expert", "messages": messages})
        assert (missing.status_code, missing.json()["error"]["code"]) == (404, "expert_not_found")
        tools = [{"type": "function", "function": {"name": "look up"}}]
        refused = client.post("/v1/chat/completions", json={"messages": messages, "tools": tools})
        assert (refused.status_code, refused.json()["error"]["param"]) == (400, "tools")


def test_an_answer_is_json_of_the_schema_that_was_asked_for(stack: RunningStack) -> None:
    schema = {"type": "object", "properties": {"size": {"enum": ["small", "large"]}}, "required": ["size"]}
    named = {"name": "size", "schema": schema | {"additionalProperties": False}}
    body = {
        "messages": [{"role": "user", "content": "Is a whale small or large?"}],
        "response_format": {"type": "json_schema", "json_schema": named},
    }
    with httpx.Client(base_url=f"http://{stack.state['gateway_http']}", timeout=60) as client:
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        choice = answer.json()["choices"][0]
        assert choice["finish_reason"] == "stop"
        assert json.loads(choice["message"]["content"])["size"] in ("small", "large")
        named["schema"] = {"type": "no such type"}
        refused = client.post("/v1/chat/completions", json=body)
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "json_schema")


def test_a_tool_is_called_and_its_result_answered(stack: RunningStack) -> None:
    size = {"type": "object", "properties": {"animal": {"enum": ["whale", "mouse"]}}, "required": ["animal"]}
    size["additionalProperties"] = False
    function = {"name": "size_of", "description": "How large an animal is", "parameters": size}
    asked = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "How large is a whale?"}]
    body = {"messages": asked, "tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    body |= {"parallel_tool_calls": False, "max_tokens": 200, "seed": 1}
    with httpx.Client(base_url=f"http://{stack.state['gateway_http']}", timeout=60) as client:
        answer = client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        choice = answer.json()["choices"][0]
        (call,) = choice["message"]["tool_calls"]
        assert (choice["finish_reason"], call["function"]["name"]) == ("tool_calls", "size_of")
        assert json.loads(call["function"]["arguments"])["animal"] in ("whale", "mouse")
        told = [*asked, choice["message"], {"role": "tool", "tool_call_id": call["id"], "content": "25 m"}]
        again = client.post("/v1/chat/completions", json=body | {"messages": told, "tool_choice": "none"})
        assert again.status_code == 200, again.text
        assert again.json()["choices"][0]["finish_reason"] in ("stop", "length")
        streamed = client.post("/v1/chat/completions", json=body | {"stream": True})
        lines = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: {")]
        deltas = [line["choices"][0]["delta"] for line in lines]
        assert [delta["tool_calls"][0]["function"] for delta in deltas if "tool_calls" in delta] == [call["function"]]
        assert lines[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_an_answer_tells_why_its_expert_gave_it_when_asked(stack: RunningStack) -> None:
    question = "A baker sells 12 rolls in the morning and twice as many at noon. How many does he sell?"
    messages = [{"role": "user", "content": question}]
    body = {"messages": messages, "max_tokens": 4, "explain": True}
    answer = httpx.post(f"http://{stack.state['gateway_http']}/v1/chat/completions", json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    routing, assignment = answer.json()["coe"]["routing"], answer.json()["coe"]["assignment"]
    assert routing["distribution"][0]["category"] == routing["category"] == "math"
    assert routing["confidence"] == pytest.approx(routing["distribution"][0]["probability"], abs=1e-6)
    assert sum(share["probability"] for share in routing["distribution"]) == pytest.approx(1, abs=1e-3)
    assert routing["language"] == "en"
    assert "fallback_reason" not in routing
    assert 0 < routing["out_of_distribution_score"] < 1
    assert routing["router_version"].startswith("router-")
    assert assignment["mapping_version"]
    assert assignment["expert_id"] == answer.json()["model"]
    assert all(candidate["expected_quality"] > 0 for candidate in assignment["candidates"])
    assert assignment["mapped_expert"] in {candidate["expert_id"] for candidate in assignment["candidates"]}


def test_openai_stream_ends_with_usage_and_done(stack: RunningStack) -> None:
    body = {
        "messages": [{"role": "user", "content": "Name a river."}],
        "max_tokens": 6,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    with httpx.stream(
        "POST", f"http://{stack.state['gateway_http']}/v1/chat/completions", json=body, timeout=60
    ) as answer:
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    chunks = [json.loads(line) for line in lines[:-1]]
    assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"
    assert chunks[-2]["choices"][0]["finish_reason"] in ("stop", "length")
    assert chunks[-1]["usage"]["completion_tokens"] >= 1
