"""Waiting prompts: all indexes agree, and operations on one prompt do not slow down as more wait."""

from collections import Counter
from collections.abc import Callable

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from coe.expert_worker.loop import WorkerLoop
from coe.expert_worker.prompt import Prompt
from coe.expert_worker.waiting import Waiting
from support.examples import examples, search_timeout
from unit.expert_worker.worker_world import World, make_prompt

pytestmark = search_timeout

EXPERTS = st.sampled_from("ab")
# Fewer than prompts, so that some come twice.
REQUESTS = st.sampled_from("xyz")


class WaitingMachine(RuleBasedStateMachine):
    """Against a list of what was pushed and not taken."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = Waiting()
        self.model: list[Prompt] = []
        self.now = 0.0

    @rule(expert=EXPERTS, request_id=REQUESTS, patience=st.integers(0, 5))
    def push(self, expert: str, request_id: str, patience: int) -> None:
        self.now += 1
        key = str(self.now)
        prompt = make_prompt(key, expert, at=self.now, deadline=self.now + patience, request_id=request_id)
        self.waiting.push(prompt)
        self.model.append(prompt)

    @rule(expert=EXPERTS, count=st.integers(0, 3), age=st.integers(0, 3))
    def take(self, expert: str, count: int, age: int) -> None:
        wanted = [one for one in self.model if one.expert_id == expert and one.taken_at <= self.now - age][:count]
        assert self.waiting.take(expert, count, self.now - age) == wanted
        self._left(wanted)

    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        key = data.draw(st.sampled_from(["none", *(prompt.key for prompt in self.model)]))
        assert self.waiting.remove(key) == any(prompt.key == key for prompt in self.model)
        self._left([prompt for prompt in self.model if prompt.key == key])

    @rule()
    def expire(self) -> None:
        late = [prompt for prompt in self.model if prompt.deadline <= self.now]
        expired = self.waiting.expire(self.now)
        assert sorted(expired, key=self.model.index) == late
        self._left(late)

    @invariant()
    def all_ways_lead_to_the_same(self) -> None:
        waiting, model = self.waiting, self.model
        assert list(waiting) == model
        assert len(waiting) == len(waiting.queues) == len(model)
        assert waiting.queues.depths() == Counter(prompt.expert_id for prompt in model)
        for request_id in "xyz":
            assert waiting.of_request(request_id) == [one for one in model if one.request_id == request_id]
        assert waiting._of_request.keys() == {prompt.request_id for prompt in model}  # nothing is left of those gone
        for expert in "ab":
            assert waiting.first(expert) == next((one for one in model if one.expert_id == expert), None)

    def _left(self, gone: list[Prompt]) -> None:
        self.model = [prompt for prompt in self.model if prompt not in gone]


WaitingMachine.TestCase.settings = settings(max_examples=examples(100), stateful_step_count=30, deadline=None)
TestWaiting = WaitingMachine.TestCase


@pytest.mark.parametrize(
    "ask",
    [
        lambda loop: loop.on_cancel("150", 0.0),
        lambda loop: loop.on_cancel("of another worker", 0.0),
        lambda loop: loop.lease_is_for("b"),
        lambda loop: loop.depths(),
    ],
    ids=["cancel", "cancel-unknown", "lease", "depths"],
)
def test_operations_on_one_prompt_do_not_scan_a_long_queue(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[WorkerLoop], object]
) -> None:
    world = World()
    world.submit(*(make_prompt(str(number), "a" if number < 199 else "b") for number in range(200)))
    looks = Counter[str]()

    def counted(name: str) -> property:
        read = getattr(Prompt, name).fget
        return property(lambda prompt: looks.update([prompt.key]) or read(prompt))

    for name in ("request_id", "expert_id"):
        monkeypatch.setattr(Prompt, name, counted(name))
    ask(world.loop)
    assert len(looks) <= 1
