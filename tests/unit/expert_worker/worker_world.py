"""A small world around the loop: a lease source, an engine of one token per step, and a ledger of outcomes."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from coe._proto import events_pb2
from coe.expert_worker.effects import (
    Abandon,
    Acquire,
    Answer,
    Discard,
    Effect,
    Finish,
    Grant,
    Loading,
    Prefetch,
    Release,
    Step,
    StepDone,
    Text,
)
from coe.expert_worker.expected import Expected
from coe.expert_worker.loop import WorkerLoop
from coe.expert_worker.prompt import Prompt
from coe.experts.logprobs import TokenLogprob
from coe.experts.sampling_params import SamplingParams
from coe.experts.tool_calls import ToolCall
from coe.platform import topics
from coe.platform.bus.api import Record
from coe.platform.errors import CapacityExceeded, CoEError, LeaseLost, NumericalError
from coe.scheduling import Exponential, LearnedCosts, make_policy


def record(value: bytes = b"", offset: int = 0, headers: tuple[tuple[str, bytes], ...] = ()) -> Record:
    return Record(topics.ASSIGNMENTS, 0, offset, b"key", value, headers, timestamp_ms=0)


def make_prompt(
    key: str, expert: str = "a", *, at: float = 0.0, deadline: float = math.inf, tokens: int = 1, request_id: str = ""
) -> Prompt:
    assigned = events_pb2.PromptAssigned(
        prompt={"request_id": request_id or key, "prompt": "p", "sampling": {"max_tokens": tokens}},
        assignment={"expert_id": expert},
    )
    sampling = SamplingParams(max_tokens=tokens)
    return Prompt(key, record(), assigned, 0, taken_at=at, submitted_at=at, deadline=deadline, sampling=sampling)


@dataclass(frozen=True)
class FakeEmission:
    request_id: str
    text: str
    tokens: int
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str | None
    final_text: str
    error: CoEError | None = None
    tool_calls: Sequence[ToolCall] = ()
    logprobs: Sequence[TokenLogprob] = ()
    prompt_logprobs: Sequence[TokenLogprob] = ()
    guessed: int = 0
    right: int = 0
    cached_tokens: int = 0


@dataclass
class World:
    """Answers effects only when told to, so that tests choose every interleaving."""

    max_batch: int = 2
    max_wait_s: float = 10.0
    policy: str = "lookahead"
    room: int = 100
    now: float = 0.0
    epoch: int = 1
    expected: Expected = field(init=False)
    loop: WorkerLoop = field(init=False)
    asked: list[str] = field(default_factory=list)
    step: Step | None = None
    # Sequences in the engine: expert -> key -> (tokens made, tokens wanted).
    engine: dict[str, dict[str, tuple[int, int]]] = field(default_factory=dict)
    leases: dict[int, str] = field(default_factory=dict)
    finished: dict[str, Finish] = field(default_factory=dict)
    outcomes: Counter[str] = field(default_factory=Counter)
    chunks: dict[str, list[int]] = field(default_factory=dict)
    log: list[Effect] = field(default_factory=list)
    joined: list[tuple[float, Prompt]] = field(default_factory=list)
    # A lost lease is found before anybody joins: the expert was imported anew.
    opens_no_runner: bool = False

    def __post_init__(self) -> None:
        costs = LearnedCosts(lambda _: 10, self.max_batch, base_s=2.0, per_prompt_s=0.1)
        self.expected = Expected(costs, Exponential(), self.max_batch)
        policy = make_policy(self.policy, max_wait=self.max_wait_s)
        self.loop = WorkerLoop(policy, self.expected, max_batch=self.max_batch)

    def submit(self, *prompts: Prompt) -> None:
        for prompt in prompts:
            self.apply(self.loop.on_prompt(prompt, self.now))
        self.advance()

    def advance(self) -> None:
        self.apply(self.loop.advance(self.now))

    def apply(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.log.append(effect)
            match effect:
                case Acquire():
                    expert_id = effect.expert_id
                    assert expert_id not in self.asked, "one question at a time"
                    self.asked.append(expert_id)
                case Abandon():
                    self.asked.remove(effect.expert_id)
                case Release(_, grant):
                    assert self.leases.pop(grant.lease_id) == effect.expert_id
                case Step():
                    assert self.step is None, "one step at a time"
                    assert self.leases.get(effect.grant.lease_id) == effect.expert_id, "a step needs its lease"
                    self.step = effect
                    self.joined += [(self.now, prompt) for prompt in effect.join]
                case Discard(expert_id):
                    self.engine.pop(expert_id, None)
                case Loading(prompt, sequence) | Text(prompt, sequence):
                    self.chunks.setdefault(prompt.key, []).append(sequence)
                case Finish(prompt):
                    self.outcomes[prompt.key] += 1
                    self.finished[prompt.key] = effect
                case Prefetch():
                    pass

    def grant(self, found_in: str = "ddr", *, bundle: str = "") -> None:
        expert_id = self.asked.pop(0)
        grant = Grant(len(self.log) + 1, handle=7, epoch=self.epoch, found_in=found_in, bytes_to_copy=10, bundle=bundle)
        self.leases[grant.lease_id] = expert_id
        self.apply(self.loop.on_granted(expert_id, grant, self.now))
        self.advance()

    def refuse(self, error: CoEError) -> None:
        self.apply(self.loop.on_refused(self.asked.pop(0), error, self.now))
        self.advance()

    def finish_step(self, error: CoEError | None = None, *, broken: str = "", goes_on: bool = False) -> None:
        """`broken`: the sequence that ends with an error of its own. `goes_on`: if nothing is to decide."""
        step, self.step = self.step, None
        assert step is not None
        live = self.engine.setdefault(step.expert_id, {})
        for key in step.leave:
            live.pop(key, None)
        refused: list[tuple[str, CoEError]] = []
        for prompt in step.join:
            assert prompt.key not in live, "a sequence joins once"
            if isinstance(error, LeaseLost) and self.opens_no_runner:
                refused.append((prompt.key, error))
            elif len(live) >= self.room:
                refused.append((prompt.key, CapacityExceeded("no KV blocks")))
            else:
                live[prompt.key] = (0, prompt.sampling.max_tokens)
        lost = [] if error or live.pop(broken, None) is None else [_broken(broken)]
        emissions = [] if error else [*lost, *self._decode(live)]
        done = StepDone(step.expert_id, emissions, refused, error, live=len(live))
        if goes_on and (following := step.following(done)) is not None:
            done, self.step = replace(done, went_on=True), following
        self.apply(self.loop.on_step(done, self.now))
        self.advance()

    def _decode(self, live: dict[str, tuple[int, int]]) -> list[FakeEmission]:
        emissions = []
        for key, (made, wanted) in list(live.items()):
            reason = "length" if made + 1 >= wanted else None
            live[key] = (made + 1, wanted)
            if reason:
                del live[key]
            emissions.append(FakeEmission(key, "t", 1, 3, made + 1, reason, "t" * (made + 1)))
        return emissions

    def run_out(self, seconds_a_step: float = 0.0) -> None:
        """Grants and steps until nothing is left to do."""
        for _ in range(10_000):
            if self.asked:
                self.grant()
            elif self.step is not None:
                self.now += seconds_a_step
                self.finish_step()
            else:
                return
        raise AssertionError("the loop does not come to rest")


def answer(world: World, key: str) -> Answer:
    result = world.finished[key].result
    assert isinstance(result, Answer)
    return result


def error(world: World, key: str) -> CoEError:
    result = world.finished[key].result
    assert isinstance(result, CoEError)
    return result


def _broken(key: str) -> FakeEmission:
    return FakeEmission(key, "", 0, 3, 0, "error", "", NumericalError("no number"))
