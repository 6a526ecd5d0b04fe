"""Queues per expert: every prompt pushed comes out exactly once, in order: taken, removed or expired."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coe.platform.errors import CapacityExceeded
from coe.scheduling import ExpertQueues, QueuedPrompt
from coe.scheduling.queues import MIN_DEADLINES
from support.examples import examples, search_timeout

pytestmark = search_timeout


class Queues(RuleBasedStateMachine):
    """Against a plain list."""

    def __init__(self) -> None:
        super().__init__()
        self.queues = ExpertQueues()
        self.model: list[QueuedPrompt] = []
        self.now = 0.0
        self.marks: dict[str, int] = {}
        self.seen: dict[str, list[QueuedPrompt]] = {}

    @rule(expert=st.sampled_from("abc"), patience=st.sampled_from([1.0, 5.0, float("inf")]))
    def push(self, expert: str, patience: float) -> None:
        self.now += 1
        prompt = QueuedPrompt(f"p{self.now}", expert, self.now, self.now + patience)
        self.queues.push(prompt)
        self.model.append(prompt)

    @rule(expert=st.sampled_from("abc"), count=st.integers(0, 3), age=st.sampled_from([0.0, 2.0]))
    def take(self, expert: str, count: int, age: float) -> None:
        wanted = [p for p in self.model if p.expert == expert and p.enqueued_at <= self.now - age][:count]
        assert self.queues.take(expert, count, self.now - age) == wanted
        self.model = [p for p in self.model if p not in wanted]

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        if self.model:
            prompt = data.draw(st.sampled_from(self.model))
            assert self.queues.remove(prompt.key) == prompt
            assert self.queues.remove(prompt.key) is None
            self.model.remove(prompt)

    @rule()
    def expire(self) -> None:
        expired = {p.key for p in self.model if p.deadline <= self.now}
        assert {p.key for p in self.queues.expire(self.now)} == expired
        self.model = [p for p in self.model if p.key not in expired]

    @invariant()
    def same(self) -> None:
        assert list(self.queues.arrivals()) == self.model
        assert self.queues.oldest() == (self.model[0] if self.model else None)
        assert set(self.queues.experts()) == {p.expert for p in self.model}
        marks = dict(self.queues.marks())
        assert marks.keys() == set(self.queues.experts())
        for expert in self.queues.experts():
            mine = [p for p in self.model if p.expert == expert]
            assert self.queues.head(expert) == mine[0]
            assert self.queues.depth(expert) == len(mine)
            assert self.queues.group(expert) == (len(mine), mine[0].enqueued_at, mine[-1].enqueued_at)
            if self.marks.get(expert) == marks[expert]:
                assert self.seen[expert] == mine
        self.marks, self.seen = marks, {e: [p for p in self.model if p.expert == e] for e in marks}


TestQueues = Queues.TestCase
TestQueues.settings = settings(max_examples=examples(60), stateful_step_count=30, deadline=None)


def test_is_bounded() -> None:
    queues = ExpertQueues(capacity=1)
    queues.push(QueuedPrompt("a", "x", 0.0))
    with pytest.raises(CapacityExceeded):
        queues.push(QueuedPrompt("b", "x", 0.0))


def test_a_key_can_be_queued_only_once() -> None:
    queues = ExpertQueues()
    queues.push(QueuedPrompt("a", "x", 0.0))
    with pytest.raises(ValueError, match="already queued"):
        queues.push(QueuedPrompt("a", "y", 1.0))


def test_deadlines_that_are_far_away_do_not_outlive_their_prompts() -> None:
    queues = ExpertQueues()
    waiting = [QueuedPrompt(f"w{number}", "y", 0.0, 1e9 - number) for number in range(10)]
    for prompt in waiting:
        queues.push(prompt)
    for number in range(10 * MIN_DEADLINES):
        queues.push(QueuedPrompt(str(number), "x", 1.0, 1e8 + number))
        queues.take("x", 1)
    assert len(queues._deadlines) <= MIN_DEADLINES + 2 * len(waiting) + 2
    assert queues.expire(1e9) == waiting[::-1]
