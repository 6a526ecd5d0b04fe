"""What the router's metrics say of prompts that it classified, and of those that a client sent somewhere."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from coe._proto.common_pb2 import RoutingDecision
from coe._proto.events_pb2 import PromptSubmitted
from coe.platform import topics
from coe.platform.bus.api import Record
from coe.platform.telemetry import registry
from coe.router.handler import RouteHandler

NOW = 1_800_000_000_000


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[tuple[float, dict[str, str]]]]:
    """Of the router's metrics, what was recorded."""
    seen: dict[str, list[tuple[float, dict[str, str]]]] = {}

    class Recorder:
        def __init__(self, name: str) -> None:
            self._seen = seen.setdefault(name, [])

        def add(self, value: float, attributes: Any = None) -> None:
            self._seen.append((value, dict(attributes or {})))

        record = add

    make: Callable[[str], Recorder] = Recorder
    monkeypatch.setattr(registry, "counter", make)
    monkeypatch.setattr(registry, "histogram", make)
    return seen


def classify(texts: Sequence[str]) -> list[RoutingDecision]:
    return [RoutingDecision(category="math", confidence=0.75, router_version="v") for _ in texts]


def record(**fields: str) -> Record:
    prompt = PromptSubmitted(request_id="r", prompt="1+1", **fields)
    return Record(topics.PROMPTS, 0, 0, b"r", prompt.SerializeToString(), (), NOW)


async def test_what_clients_write_is_no_label_and_no_confidence(
    recorded: dict[str, list[tuple[float, dict[str, str]]]],
) -> None:
    handler = RouteHandler(classify, max_bytes=100, now_ms=lambda: NOW, categories=lambda: ("math", "coding"))
    named = [record(category=f"mine-{number}") for number in range(50)]
    await handler([*named, record(category="coding"), record(expert_id="tiny"), record()])
    categories = [attributes["coe.router.category"] for _, attributes in recorded["coe.router.decisions"]]
    assert categories == [*["_OTHER"] * 50, "coding", "", "math"]
    assert [value for value, _ in recorded["coe.router.confidence"]] == [0.75]
    assert len(recorded["coe.router.duration"]) == 1
