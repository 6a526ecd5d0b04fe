"""Shadow mode, canary share and hot reload."""

import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coe._proto.common_pb2 import RoutingDecision
from coe.platform.errors import ArtifactError
from coe.router.classifier import Classifier
from coe.router.reload import Reloader
from coe.router.rollout import Difference, Rollout, in_share

TEXTS = [f"prompt {number}" for number in range(400)]


class Always:
    """Sends every prompt to one category."""

    def __init__(self, category: str, version: str = "v1") -> None:
        self.category = category
        self.version = version

    def classify(self, texts: Sequence[str]) -> list[RoutingDecision]:
        return [RoutingDecision(category=self.category, router_version=self.version) for _ in texts]


def always(category: str, version: str = "v1") -> Classifier:
    return cast("Classifier", Always(category, version))


def test_a_shadow_is_heard_but_decides_nothing() -> None:
    heard: list[Difference] = []
    rollout = Rollout(always("math"), always("law"), observe=heard.append)
    assert {decision.category for decision in rollout.classify(TEXTS)} == {"math"}
    assert len(heard) == len(TEXTS)
    assert heard[0].candidate.category == "law"


def test_another_candidate_is_tried_from_the_next_batch_on() -> None:
    heard: list[Difference] = []
    rollout = Rollout(always("math"), always("math"), observe=heard.append)
    rollout.try_out(always("law", "v2"))
    rollout.classify(TEXTS[:1])
    assert [difference.candidate.router_version for difference in heard] == ["v2"]


def test_agreement_is_not_worth_a_word() -> None:
    heard: list[Difference] = []
    Rollout(always("math"), always("math"), observe=heard.append).classify(TEXTS)
    assert heard == []


def test_a_canary_decides_about_its_share_and_always_the_same_prompts() -> None:
    rollout = Rollout(always("math"), always("law"), canary_share=0.25)
    first = [decision.category for decision in rollout.classify(TEXTS)]
    assert first.count("law") == pytest.approx(100, abs=30)
    assert [decision.category for decision in rollout.classify(TEXTS)] == first


@given(st.text(), st.floats(0, 1), st.floats(0, 1))
def test_shares_grow(text: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert in_share(text, high) or not in_share(text, low)
    assert in_share(text, 1.0)
    assert not in_share(text, 0.0)


async def test_a_new_file_is_taken_into_use_and_a_bad_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "router"
    path.write_text("v1")

    def open_path(path: Path) -> Classifier:
        if path.read_text() == "broken":
            raise ArtifactError("corrupt")
        return always("math", path.read_text())

    reloader = Reloader(lambda: path, open_path)
    rollout = Rollout(reloader.open())
    assert not await reloader.check(rollout.replace)
    for content, taken, serving in (("v22", True, "v22"), ("broken", False, "v22"), ("v4444", True, "v4444")):
        path.write_text(content)
        assert await reloader.check(rollout.replace) is taken
        assert rollout.current.version == serving
    path.unlink()
    assert not await reloader.check(rollout.replace)
    path.write_text("v4444")
    os.utime(path, ns=(1, 1))
    assert await reloader.check(rollout.replace)


async def test_a_file_system_that_takes_its_time_keeps_nobody_waiting(tmp_path: Path) -> None:
    threads = []

    def locate() -> Path:
        threads.append(threading.current_thread())
        return tmp_path / "router"

    assert not await Reloader(locate, lambda path: always("math", "v1")).check(Rollout(always("math", "v1")).replace)
    assert threads
    assert threading.current_thread() not in threads


async def test_a_change_while_the_service_starts_is_not_missed(tmp_path: Path) -> None:
    path = tmp_path / "router"
    path.write_text("v1")

    def open_path(path: Path) -> Classifier:
        found = always("math", path.read_text())
        path.write_text("v22")
        return found

    reloader = Reloader(lambda: path, open_path)
    rollout = Rollout(reloader.open())
    assert rollout.current.version == "v1"
    assert await reloader.check(rollout.replace)
    assert rollout.current.version == "v22"
