"""A prompt is one trace through all services, with the services' edges where they belong."""

import json
import time
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from support.stack import RunningStack

pytestmark = pytest.mark.stack

TRACE_ID = uuid4().hex
# (service of the parent, name of the parent, service of the span, name of the span)
EDGES = {
    ("coe-router", "process coe.prompts.v1", "coe-router", "send coe.routed.v1"),
    ("coe-router", "send coe.routed.v1", "coe-mapper", "process coe.routed.v1"),
    ("coe-mapper", "process coe.routed.v1", "coe-mapper", "send coe.assignments.v1"),
    ("coe-mapper", "send coe.assignments.v1", "coe-expert-worker", "process coe.assignments.v1"),
    (
        "coe-expert-worker",
        "process coe.assignments.v1",
        "coe-expert-worker",
        "coe.v1.MemoryTierManager/Acquire",
    ),
    (
        "coe-expert-worker",
        "coe.v1.MemoryTierManager/Acquire",
        "coe-memory-tier-manager",
        "coe.v1.MemoryTierManager/Acquire",
    ),
    ("coe-expert-worker", "process coe.assignments.v1", "coe-expert-worker", "send coe.completions.v1"),
}


def spans(stack: RunningStack) -> list[dict[str, Any]]:
    lines = (stack.home / "traces.jsonl").read_text().splitlines() if (stack.home / "traces.jsonl").exists() else []
    return [span for line in lines if (span := json.loads(line))["trace_id"] == TRACE_ID]


def edges(found: list[dict[str, Any]]) -> set[tuple[str, str, str, str]]:
    by_id = {span["span_id"]: span for span in found}
    return {
        (parent["service"], parent["name"], span["service"], span["name"])
        for span in found
        if (parent := by_id.get(span["parent_id"])) is not None
    }


def test_services_are_joined_as_they_work(stack: RunningStack) -> None:
    producer = Producer({"bootstrap.servers": stack.state["kafka_bootstrap"]})
    headers = [
        ("content-type", b"application/json"),
        ("traceparent", f"00-{TRACE_ID}-{'b' * 16}-01".encode()),
    ]
    body = json.dumps({"requestId": TRACE_ID, "prompt": "What is two plus two?", "sampling": {"maxTokens": 4}})
    producer.produce("coe.prompts.v1", body.encode(), TRACE_ID, headers=headers)
    producer.flush(30)
    deadline = time.monotonic() + 60
    while not edges(spans(stack)) >= EDGES:
        missing = EDGES - edges(spans(stack))
        assert time.monotonic() < deadline, f"not in the trace: {missing}"
        time.sleep(0.1)
    found = spans(stack)
    (routed,) = [span for span in found if span["name"] == "process coe.prompts.v1"]
    assert routed["parent_id"] == "b" * 16, "the producer's span is the first parent"
    (worked,) = [span for span in found if span["name"] == "process coe.assignments.v1"]
    assert worked["attributes"]["gen_ai.usage.output_tokens"] >= 1
    assert worked["attributes"]["gen_ai.operation.name"] == "chat"
