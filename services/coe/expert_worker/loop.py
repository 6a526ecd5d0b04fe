"""The worker's state machine: events in, effects out. No I/O, no clock, no awaits; owned by one task.

Every prompt passed to `on_prompt` ends in exactly one way: with a `Finish` effect, or handed back to the topic by
`on_revoked` or `drain`. One expert runs at a time, chosen by the scheduling policy (coe.scheduling). Its prompts share
a batch, which further prompts from its queue join as the policy allows; when the batch is empty, the next expert is
leased. At most one step is in progress, or an uninterrupted run of steps that needs no decision in between. Events that
arrive meanwhile change the state and take effect at the next step. An expert whose weights are late (its disk may not
be responding) blocks nobody: other experts run first.

Call `advance` after each burst of events: nothing else starts work.
"""

from collections import Counter
from collections.abc import Collection

from coe.expert_worker.batch import Batch, cancelled, expired, never_started
from coe.expert_worker.effects import (
    Abandon,
    Acquire,
    Answer,
    Discard,
    Effect,
    Finish,
    Grant,
    Prefetch,
    Release,
    Residency,
    Step,
    StepDone,
)
from coe.expert_worker.expected import Expected
from coe.expert_worker.prompt import Prompt
from coe.expert_worker.resident import Resident
from coe.expert_worker.tombstones import Tombstones
from coe.expert_worker.waiting import Waiting
from coe.platform.errors import CapacityExceeded, CoEError, LeaseLost, Unavailable
from coe.scheduling import Batch as Plan
from coe.scheduling import Decision, QueuePolicy, QueueView, Running


class WorkerLoop:
    """`max_batch`: the most sequences in a batch. `max_failures`: how many steps in a row may lose their lease.
    `chunk_s`: see Batch.
    """

    def __init__(
        self,
        policy: QueuePolicy,
        expected: Expected,
        *,
        max_batch: int,
        max_failures: int = 3,
        chunk_s: float = 0.0,
    ) -> None:
        self.waiting = Waiting()
        self.batch: Batch | None = None
        self._policy = policy
        self._expected = expected
        self._max_batch = max_batch
        self._max_failures = max_failures
        self._chunk_s = chunk_s
        self._plan: Plan | None = None
        self._stepped_at: float | None = None
        self._epoch: int | None = None
        self._resident = Resident(expected.costs.load_s)
        self._prefetched: set[str] = set()
        self._last: str | None = None
        self._tombstones = Tombstones()

    @property
    def idle(self) -> bool:
        return self.batch is None and not len(self.waiting)

    def held(self) -> list[Prompt]:
        """Every prompt that has not ended."""
        return [*self.waiting, *self._started()]

    def depths(self) -> Counter[str]:
        """Prompts that have not ended, by expert."""
        return Counter(self.waiting.queues.depths()) + Counter(prompt.expert_id for prompt in self._started())

    def step_s(self, now: float) -> float:
        """Seconds since the current step began; 0 between steps."""
        return now - self._stepped_at if self._stepped_at is not None else 0.0

    def is_overdue(self, now: float) -> bool:
        """Whether a running sequence is past its deadline: it ends when the current step does."""
        return self.batch is not None and any(one.prompt.deadline <= now for one in self.batch.live.values())

    # Events.

    def on_prompt(self, prompt: Prompt, now: float) -> list[Effect]:
        self._expected.popularity.observe(prompt.expert_id)
        if self._tombstones.take(prompt):
            return [never_started(prompt, cancelled(prompt), now)]
        if prompt.deadline <= now:
            return [never_started(prompt, expired(prompt), now)]
        try:
            self.waiting.push(prompt)
        except CapacityExceeded as error:
            return [never_started(prompt, error, now)]
        if (batch := self.batch) is not None and batch.expert_id == prompt.expert_id and batch.grant is not None:
            batch.outdated = batch.outdated or bool(batch.grant.bundle and batch.grant.bundle != prompt.bundle)
        return []

    def on_cancel(self, request_id: str, now: float) -> list[Effect]:
        started = (prompt for prompt in self._started() if prompt.request_id == request_id)
        asked = [*self.waiting.of_request(request_id), *started]
        effects = [effect for prompt in asked for effect in self._end(prompt, cancelled(prompt), now)]
        if not effects:
            self._tombstones.add(request_id, now)
        return effects

    def on_tick(self, now: float) -> list[Effect]:
        """Ends prompts past their deadline, even if nothing else happens. Sequences in a step end after it."""
        effects: list[Effect] = [never_started(prompt, expired(prompt), now) for prompt in self.waiting.expire(now)]
        if (batch := self.batch) is not None:
            started = batch.postponed if self._stepped_at is not None else batch.prompts
            late = [prompt for prompt in started if prompt.deadline <= now]
            effects += [effect for prompt in late for effect in self._end(prompt, expired(prompt), now)]
        return effects

    def on_revoked(self, keys: Collection[str]) -> list[Effect]:
        """These prompts now belong to another worker."""
        for key in keys:
            self.waiting.remove(key)
        if self.batch is not None:
            self.batch.postponed = [prompt for prompt in self.batch.postponed if prompt.key not in keys]
            for key in [key for key in self.batch.live if key in keys]:
                self.batch.forget(key)
        return []

    def on_residency(self, expert_id: str, nbytes: int, residency: Residency, now: float) -> list[Effect]:
        load_s = self._resident.changed(expert_id, residency, now)
        if load_s is not None:
            self._expected.costs.observe_load(nbytes, load_s)
        if (batch := self.batch) is not None and batch.expert_id == expert_id:
            batch.recalled = residency is Residency.LEAVING
            batch.copy_s = batch.copy_s if load_s is None else load_s
        return []

    def on_attached(self, epoch: int) -> list[Effect]:
        """Attached to the tier manager, possibly a restarted one: leases of earlier epochs are void."""
        if epoch != self._epoch:
            self._epoch = epoch
            self._resident.forget()
        return []

    def on_granted(self, expert_id: str, grant: Grant, now: float) -> list[Effect]:
        if self.batch is None or self.batch.expert_id != expert_id or self.batch.grant is not None:
            return [Release(expert_id, grant)]
        self.batch.granted(grant, now)
        return []

    def on_refused(self, expert_id: str, error: CoEError, now: float) -> list[Effect]:
        """No lease is available: every prompt waiting for this expert ends with the error."""
        if self.batch is None or self.batch.expert_id != expert_id or self.batch.grant is not None:
            return []
        effects = self.batch.fail(error, now)
        waiting = self.waiting.take(expert_id, len(self.waiting))
        effects += [never_started(prompt, error, now) for prompt in waiting]
        self.batch = None
        return [*effects, Discard(expert_id)]

    def on_step(self, done: StepDone, now: float) -> list[Effect]:
        batch, stepped_at = self.batch, self._stepped_at
        assert batch is not None
        assert stepped_at is not None
        self._stepped_at = now if done.went_on else None
        effects = self._on_refusals(batch, done, now)
        if done.error is not None:
            return effects + self._on_step_failed(batch, done.error, now)
        batch.failures, batch.proven = 0, True
        if batch.live and all(sequence.first_token_at is not None for sequence in batch.live.values()):
            tokens = sum(emission.tokens for emission in done.emissions)
            self._expected.saw_step(len(batch.live), max(tokens, 1), now - stepped_at)
        for effect in batch.on_emissions(done.emissions, now):
            effects.append(effect)
            if isinstance(effect, Finish) and isinstance(effect.result, Answer):
                self._expected.saw_answer(effect.result.completion_tokens)
        return effects

    def drain(self) -> list[Effect]:
        """Hands back prompts that have not started; running ones finish."""
        self.waiting = Waiting()
        return []

    def lease_is_for(self, expert_id: str) -> Prompt | None:
        """The prompt whose trace a lease on the expert belongs to: the oldest one waiting for it."""
        return self.waiting.first(expert_id)

    # Work.

    def advance(self, now: float) -> list[Effect]:
        if self._stepped_at is not None:
            return []
        effects = self.on_tick(now)
        batch = self.batch
        if batch is not None and batch.grant is not None:
            effects += self._run(batch, batch.grant, now)
        elif batch is not None and batch.empty:
            wanted = self.waiting.queues.depth(batch.expert_id) > 0
            if not wanted or (self._resident.is_late(batch.expert_id, now) and self._in_time(now)):
                # Abandoning the lease cancels a load that only it asked for; the prefetch keeps the load going.
                effects += [Prefetch(batch.expert_id)] if wanted else []
                effects += [Abandon(batch.expert_id), Discard(batch.expert_id)]
                self.batch = None
        if self.batch is None:
            self._prefetched.clear()
            decision = self._decide(now)
            if decision.run is not None:
                self._plan = plan = self._rather_in_time(decision.run, now)
                self.batch = Batch(plan.expert, now, self._chunk_s)
                effects.append(Acquire(plan.expert, decision.forecast, self._policy.copy_first))
        return effects

    def _run(self, batch: Batch, grant: Grant, now: float) -> list[Effect]:
        if self._epoch is not None and grant.epoch not in (self._epoch, 0):
            batch.lost(now)
            return [Acquire(batch.expert_id)]
        joined = batch.take_postponed() + self._take(self._plan)
        self._plan = None
        live = len(batch.live) + len(joined)
        decision = self._decide(now, Running(batch.expert_id, live, self._expected.remaining_s(batch.live.values())))
        if not (batch.postponed or batch.recalled or batch.outdated):
            joined += self._take(decision.join)
        effects = [effect for prompt in joined for effect in batch.join(prompt, now)]
        if not batch.live and not batch.leaving:
            self.batch, self._last = None, batch.expert_id
            self._expected.saw_batch(batch, now)
            return [*effects, Release(batch.expert_id, grant)]
        leave, batch.leaving = batch.leaving, []
        self._stepped_at = now
        closed = not (batch.postponed or self.waiting.queues.depth(batch.expert_id))
        return [*effects, Step(batch.expert_id, grant, joined, leave, closed), *self._prefetch(decision)]

    def _decide(self, now: float, running: Running | None = None) -> Decision:
        view = QueueView(
            queues=self.waiting.queues,
            costs=self._expected.costs,
            popularity=self._expected.popularity,
            resident=self._resident.experts,
            max_batch=self._max_batch,
            running=running,
            last=self._last,
        )
        return self._policy.decide(view, now)

    def _in_time(self, now: float) -> list[str]:
        """Experts with waiting prompts whose weights are not late: those in HBM first, then by their oldest prompt."""
        queues, resident = self.waiting.queues, self._resident
        experts = [expert_id for expert_id in queues.experts() if not resident.is_late(expert_id, now)]
        return sorted(experts, key=lambda one: (one not in resident.experts, queues.head(one).enqueued_at))

    def _rather_in_time(self, plan: Plan, now: float) -> Plan:
        """The plan itself, or another expert's prompts if the plan's expert is late."""
        if not self._resident.is_late(plan.expert, now) or not (others := self._in_time(now)):
            return plan
        return Plan(others[0], plan.count)

    def _take(self, plan: Plan | None) -> list[Prompt]:
        return [] if plan is None else self.waiting.take(plan.expert, plan.count, plan.arrived_by)

    def _prefetch(self, decision: Decision) -> list[Effect]:
        """Asks for each expert once per batch: the tier manager ignores a prefetch that there is no room for."""
        wanted = [expert_id for expert_id in decision.prefetch if expert_id not in self._prefetched]
        self._prefetched.update(wanted)
        return [Prefetch(expert_id, decision.forecast) for expert_id in wanted]

    def _started(self) -> list[Prompt]:
        return self.batch.prompts if self.batch is not None else []

    # Ends other than an answer.

    def _end(self, prompt: Prompt, error: CoEError, now: float) -> list[Effect]:
        """Ends a prompt that is waiting, live or postponed."""
        if self.waiting.remove(prompt.key):
            return [never_started(prompt, error, now)]
        assert self.batch is not None
        if prompt.key in self.batch.live:
            return self.batch.abort(prompt.key, error, now)
        self.batch.postponed.remove(prompt)
        return [never_started(prompt, error, now)]

    def _on_refusals(self, batch: Batch, done: StepDone, now: float) -> list[Effect]:
        effects: list[Effect] = []
        refused = {key for key, _ in done.refused}
        # A sequence that left during the step still occupied its room.
        others = bool(batch.leaving) or not batch.live.keys() <= refused
        for key, error in done.refused:
            if key not in batch.live:
                continue
            if isinstance(error, LeaseLost) or (isinstance(error, CapacityExceeded) and others):
                batch.postpone(key)
            else:
                effects.append(batch.refuse(key, error, now))
        return effects

    def _on_step_failed(self, batch: Batch, error: CoEError, now: float) -> list[Effect]:
        assert batch.grant is not None
        release = Release(batch.expert_id, batch.grant)
        batch.failures += 1
        # The graph can't tell why the bytes it waited for did not arrive; the next lease reports the reason.
        loading = not batch.proven and batch.grant.found_in != "hbm"
        if (loading or isinstance(error, LeaseLost | Unavailable)) and batch.failures <= self._max_failures:
            batch.lost(now)
            return [release, Acquire(batch.expert_id, until_resident=True)]
        effects = batch.fail(error, now)
        self.batch = None
        return [*effects, Discard(batch.expert_id), release]
