"""The packaged mapping finds parts of real prompts with the real encoder."""

from pathlib import Path

import pytest

from coe._proto.common_pb2 import RoutingDecision
from coe._proto.events_pb2 import PromptAssigned, PromptRouted, PromptSubmitted
from coe.mapper.handler import MapHandler
from coe.mapper.replicas import Choice
from coe.mapper.settings import MapperSettings
from coe.mapper.state import StateFiles
from coe.platform import topics
from coe.platform.bus.api import Record

pytestmark = pytest.mark.model


async def test_a_prompt_is_assigned_by_its_part(tmp_path: Path) -> None:
    settings = MapperSettings(experts=frozenset({"tiny"}))
    files = StateFiles(tmp_path, settings)
    files.load()
    handler = MapHandler(lambda: files.current, lambda expert, affinity: Choice(0, None), settings, now_ms=lambda: 0)
    texts = {
        "math": "A baker sells 12 rolls at $2 each and 5 loaves at $4 each. How much money does she take in?",
        "coding": "def f(text):\n    return text[::-1].upper()\nassert f('ab') == ??",
        "medical": "What are the side effects of ibuprofen?",
    }
    records = [
        Record(
            topics.ROUTED,
            0,
            0,
            category.encode(),
            PromptRouted(
                prompt=PromptSubmitted(request_id=category, prompt=text), routing=RoutingDecision(category=category)
            ).SerializeToString(),
            (),
            0,
        )
        for category, text in texts.items()
    ]
    outcomes = await handler(records)
    parts = {}
    for outcome in outcomes:
        message = outcome.publish[0].message
        assert isinstance(message, PromptAssigned)
        parts[message.routing.category] = message.routing.subcategory
        assert len(message.assignment.candidates) == 5
    assert parts["math"].startswith("math/grade-school/")
    assert parts["coding"].startswith("coding/code-reasoning/")
    assert parts["medical"] == ""
