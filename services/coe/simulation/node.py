"""Discrete-event simulation of one node: queues under a policy, HBM, and execution with continuous batching."""

import heapq
from collections import Counter
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from coe.memory_tier_manager.eviction import EVICTION
from coe.scheduling import Batch, Decision, ExpertQueues, Exponential, QueuedPrompt, QueuePolicy, QueueView, Running
from coe.simulation.hardware import Hardware
from coe.simulation.measured import at
from coe.simulation.memory import LoadTimes, SimulatedHbm
from coe.simulation.prefill import prefill_steps
from coe.simulation.trace import Trace


@dataclass(slots=True)
class Served:
    """The outcome of a trace. `waits`: seconds from arrival to prefill with resident weights, in order of start.

    `started`: indexes into the trace, in the same order. `busy_s`: seconds of execution.
    """

    waits: list[float] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    started: list[int] = field(default_factory=list)
    ended_at: float = 0.0
    loads: int = 0
    visits: int = 0
    busy_s: float = 0.0

    @property
    def prompts_s(self) -> float:
        return len(self.latencies) / self.ended_at if self.ended_at else 0.0


@dataclass(frozen=True, slots=True)
class ExactCosts:
    """The cost of visits, computed rather than learned. `tokens`: the mean length of an answer."""

    machine: Hardware
    expert_bytes: int
    max_batch: int
    tokens: float
    prompt_tokens: float
    known: dict[int, float] = field(default_factory=dict)
    version: int = 0

    def load_s(self, expert: str) -> float:
        return self.machine.load_s(self.expert_bytes)

    def run_s(self, expert: str, prompts: int) -> float:
        seconds = self.known.get(prompts)
        if seconds is None:
            seconds = self.machine.run_s(prompts, self.max_batch, self.tokens, self.prompt_tokens)
            self.known[prompts] = seconds
        return seconds


class Node:
    """Serves one trace: in full with `run`, which may be called once, or with `advance` while the trace still grows.

    `like`: prompts of the lengths that the policy should expect; by default, those of the trace.
    """

    def __init__(
        self,
        trace: Trace,
        machine: Hardware,
        policy: QueuePolicy,
        *,
        expert_bytes: int,
        max_batch: int,
        like: Trace | None = None,
    ) -> None:
        like = like or trace
        self._trace = trace
        self._machine = machine
        self._policy = policy
        self._max_batch = max_batch
        self._overlap = machine.overlap and not policy.copy_first
        times = LoadTimes(
            machine.load_s(expert_bytes), machine.first_load_s(expert_bytes), machine.fresh_load_s(expert_bytes)
        )
        self._hbm = SimulatedHbm(machine.holds(expert_bytes), times, EVICTION[policy.eviction])
        self._queues = ExpertQueues(capacity=len(like) + 1)
        self._popularity = Exponential()
        self._costs = ExactCosts(
            machine,
            expert_bytes,
            max_batch,
            sum(like.output_tokens) / max(len(like), 1),
            max(sum(like.prompt_tokens) / max(len(like), 1) - like.shared_tokens, 0.0),
        )
        # Duration of a decode step, by number of sequences.
        self._steps_s = [machine.decode_s(sequences) for sequences in range(max_batch + 1)]
        measured = machine.measured
        self._copying = measured.copying if measured else 0.0
        self._switch_s = measured.switch_s if measured else 0.0
        self._woken = True
        # Loads whose cost execution has already been charged.
        self._paid = 0
        # Experts that have computed their prompts' shared prefix.
        self._begun: set[str] = set()
        self._now = 0.0
        self._next = 0
        self._expert: str | None = None
        self._last: str | None = None
        # (step at which the sequence ends, index in the trace), a heap
        self._live: list[tuple[float, int]] = []
        self._steps = 0.0
        self._served = Served()

    def run(self) -> Served:
        self.advance(float("inf"))
        return self.served

    @property
    def served(self) -> Served:
        """The outcome so far."""
        self._served.ended_at = self._now
        self._served.loads = self._hbm.loads
        return self._served

    def depths(self) -> Counter[str]:
        """Unfinished prompts that have arrived, by expert."""
        depths = Counter(self._queues.depths())
        if self._expert is not None:
            depths[self._expert] += len(self._live)
        return depths

    @property
    def resident(self) -> AbstractSet[str]:
        """Experts in HBM or on the way there."""
        return self._hbm.held.keys()

    def advance(self, until: float) -> None:
        """Simulates up to `until`, or slightly past it to finish what can't be interrupted.

        The trace must be complete up to then.
        """
        arrivals = self._trace.arrivals
        count = len(arrivals)
        while self._next < count or self._live or len(self._queues):
            if self._expert is None:
                if not len(self._queues):
                    if arrivals[self._next] > until:
                        return
                    self._woken = arrivals[self._next] > self._now
                    self._now = max(self._now, arrivals[self._next])
                elif self._now > until:
                    return
                self._start_visit()
                continue
            step_s = self._steps_s[len(self._live)]
            ends_at = self._after(max(0.0, (self._live[0][0] - self._steps) * step_s))
            if self._next < count and arrivals[self._next] < ends_at:
                # It may have arrived during a prefill.
                self._pass(max(0.0, arrivals[self._next] - self._now), step_s)
                # The policy sees prompts for other experts at its next decision; a worker's sees them at the next step.
                # Asking it at every arrival would double the simulation's run time and change no figure beyond noise.
                if self._arrive() == self._expert and len(self._live) < self._max_batch:
                    self._join()
            elif ends_at > until:
                self._pass(max(0.0, until - self._now), step_s)
                return
            else:
                self._pass(ends_at - self._now, step_s)
                self._end_sequences()

    def _pass(self, seconds: float, step_s: float) -> None:
        self._steps += (seconds - self._copying * self._copied_in(seconds)) / step_s
        self._now += seconds
        self._served.busy_s += seconds

    def _copied_in(self, seconds: float) -> float:
        """For how many of the next `seconds` the link is copying."""
        return min(seconds, max(0.0, self._hbm.link_free_at - self._now))

    def _after(self, seconds: float) -> float:
        """When this much execution will be done, given that a copy in progress slows it down."""
        kept = 1 - self._copying
        beside = self._copied_in(seconds / kept)
        return self._now + beside + seconds - beside * kept

    def _arrive(self) -> str:
        index = self._next
        self._next += 1
        expert = self._trace.experts[index]
        self._queues.push(QueuedPrompt(str(index), expert, self._trace.arrivals[index]))
        self._popularity.observe(expert)
        return expert

    def _take_arrivals(self) -> None:
        arrivals = self._trace.arrivals
        while self._next < len(arrivals) and arrivals[self._next] <= self._now:
            self._arrive()

    def _start_visit(self) -> None:
        self._now += self._switch_s
        self._take_arrivals()
        decision = self._decide(None)
        if decision.run is None:
            raise ValueError(f"policy {self._policy.name} leaves prompts waiting while nothing runs")
        expert = decision.run.expert
        self._hbm.hear(decision.forecast, self._now)
        ready_at = self._hbm.acquire(expert, self._now)
        self._served.visits += 1
        self._expert = expert
        self._prefetch(decision)
        self._prefill(decision.run, max(ready_at, self._now))
        self._join()

    def _prefill(self, batch: Batch, ready_at: float) -> None:
        """Adds prompts to the batch. Their prefill blocks every sequence; with overlap it may run during the copy."""
        trace, machine = self._trace, self._machine
        joined = [int(one.key) for one in self._queues.take(batch.expert, batch.count, batch.arrived_by)]
        for index in joined:
            self._served.waits.append(ready_at - trace.arrivals[index])
        self._served.started += joined
        if not self._overlap:
            self._now = ready_at
        if machine.measured is not None:
            prefill_s = self._prefill_in_steps(batch.expert, joined)
        else:
            prefill_s = 0.0
            for index in joined:
                prefill_s += machine.prefill_s + machine.token_s * trace.prompt_tokens[index]
                heapq.heappush(self._live, (self._steps + trace.output_tokens[index], index))
        ends_at = self._after(prefill_s)
        self._served.busy_s += ends_at - self._now
        self._now = max(ends_at, ready_at)

    def _prefill_in_steps(self, expert: str, joined: list[int]) -> float:
        """Returns the seconds of the prefill. Sequences that were already live get a token in each of its steps."""
        measured, trace = self._machine.measured, self._trace
        assert measured is not None
        shared = trace.shared_tokens
        known = shared if expert in self._begun else 0
        self._begun.add(expert)
        tokens = [max(1, trace.prompt_tokens[index] - known) for index in joined]
        seconds = measured.prompt_s * len(joined) + measured.ask_s * (self._hbm.loads - self._paid)
        self._paid = self._hbm.loads
        if self._woken:
            self._woken = False
            seconds += measured.wake_s
        if expert in self._hbm.untouched:
            self._hbm.untouched.discard(expert)
            seconds += measured.touch_s
        for computed, drew in prefill_steps(tokens, shared - known, len(self._live)):
            self._steps += 1
            seconds += at(measured.prefill, computed) + measured.between_s
            for prompt in drew:
                index = joined[prompt]
                heapq.heappush(self._live, (self._steps + trace.output_tokens[index] - 1, index))
        return seconds

    def _join(self) -> None:
        """Lets the policy add prompts to the batch, and prefetch."""
        self._take_arrivals()
        expert = self._expert
        if expert is None:
            return
        remaining_s = max(end for end, _ in self._live) - self._steps if self._live else 0.0
        decision = self._decide(Running(expert, len(self._live), remaining_s * self._steps_s[len(self._live)]))
        self._hbm.hear(decision.forecast, self._now)
        self._prefetch(decision)
        if decision.join is not None:
            self._prefill(decision.join, self._now)

    def _end_sequences(self) -> None:
        live, arrivals = self._live, self._trace.arrivals
        while live and live[0][0] <= self._steps + 1e-9:
            _, index = heapq.heappop(live)
            self._served.latencies.append(self._now - arrivals[index])
        expert = self._expert
        if expert is not None and self._queues.depth(expert):
            self._join()
        if not live:
            self._last, self._expert = expert, None

    def _prefetch(self, decision: Decision) -> None:
        if self._machine.overlap:
            for expert in decision.prefetch:
                self._hbm.prefetch(expert, self._now, self._expert or "")

    def _decide(self, running: Running | None) -> Decision:
        view = QueueView(
            self._queues,
            self._costs,
            self._popularity,
            self._hbm.held.keys(),
            self._max_batch,
            running,
            self._last,
        )
        return self._policy.decide(view, self._now)


def serve(trace: Trace, machine: Hardware, policy: QueuePolicy, *, expert_bytes: int, max_batch: int = 8) -> Served:
    return Node(trace, machine, policy, expert_bytes=expert_bytes, max_batch=max_batch).run()
