"""This project's policy. The queue shows the near future, so group prompts by expert, prefetch the experts that run
next, and tell the tier manager which resident experts are not needed soon.

A *visit* serves the queued prompts of one expert. The next visit is the one that answers the most prompts per second
(an expert in HBM costs no load, and a long queue shares one load), weighted by how long its oldest prompt has waited,
provided that every other visit can still begin in time. A prompt is due `max_wait` after its arrival; `latest_start` is
the classic backward pass of earliest-deadline-first scheduling. When no candidate leaves the others enough time, the
visit with the earliest due time runs.

Two bounds follow, both tested over random traces:
* As long as serving prompts one by one in order of arrival would start each within `max_wait`, this policy does too,
  give or take the generation in progress.
* Always, even under overload: a prompt that has waited `max_wait` is served in the current round or the next. A round
  visits, once each, the experts that had prompts waiting when it began, and a visit takes the prompts that arrived
  before it. If prompts arrive faster than groups collected over `max_wait` can be answered, rounds and groups grow
  until throughput keeps up.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from operator import attrgetter

from coe.scheduling.policy import IDLE, Batch, Decision, NextUse, QueueView, Running
from coe.scheduling.queues import ExpertQueues

# Predicted lateness, as a fraction of max_wait, above which the worker counts as overloaded. Honouring due times would
# then only add switches, so whole visits are made in rounds.
OVERLOAD = 0.25
# Visits to try, best first, before falling back to the one due first.
CANDIDATES = 4
# A visit whose oldest prompt has waited max_wait / PATIENCE counts as if it answered four times as many prompts per
# second; after twice that wait, nine times as many. In simulation this lowers the mean and the p99 wait.
PATIENCE = 20.0


@dataclass(slots=True)
class Visit:
    """Serving the queue of one expert, whose oldest prompt arrived at `head`.

    `due`: when it must begin. `cost`: its seconds, including the load if one is needed. `per_prompt`: `cost` divided by
    the number of prompts. `mark`: the state of the queue that this was computed from (`ExpertQueues.marks`).
    """

    expert: str
    head: float
    due: float
    cost: float
    resident: bool
    per_prompt: float
    mark: int = 0


class Lookahead:
    name = "lookahead"
    eviction = "next-use"
    copy_first = False

    def __init__(self, max_wait: float = 20.0, prefetch_depth: int = 2) -> None:
        self.max_wait = max_wait
        self.prefetch_depth = prefetch_depth
        # The state of the other experts' queues at the last look, and their visits in the order they would run.
        self._seen: tuple[str, int, ExpertQueues] | None = None
        self._others: list[Visit] = []
        # Cached visits by expert, valid while queue, costs and residency are unchanged.
        self._visits: dict[str, Visit] = {}
        self._good_for: tuple[ExpertQueues, int] | None = None
        self._foretold = False
        self._latest_start = float("inf")
        self._round_began = float("-inf")
        self._visit_began = float("-inf")

    def decide(self, view: QueueView, now: float) -> Decision:
        oldest = view.queues.oldest()
        if oldest is None:
            return IDLE
        if oldest.enqueued_at > self._round_began:
            self._round_began = now
        arrived_by = max(oldest.enqueued_at + self.max_wait, self._round_began)
        if view.running is not None:
            return self._while_running(view, view.running, now, arrived_by)
        visits = self._known_visits(view)
        order = self._order(visits, now, arrived_by)
        self._visit_began = now
        batch = Batch(order[0].expert, view.max_batch, max(arrived_by, now))
        self._seen = None
        return Decision(run=batch, prefetch=self._prefetch(view, order[1:]), forecast=self._forecast(view, order, 0.0))

    def _while_running(self, view: QueueView, running: Running, now: float, arrived_by: float) -> Decision:
        # Called at every step, so the other experts' queues are examined again only when they have changed.
        seen = (running.expert, view.queues.changes_beside(running.expert), view.queues)
        if seen != self._seen:
            others = self._known_visits(view, without=running.expert)
            self._seen, self._latest_start, self._foretold = seen, latest_start(by_due(others)), False
            self._others = self._order(others, now + running.remaining_s, arrived_by)
        prefetch = self._prefetch(view, self._others)
        forecast: tuple[NextUse, ...] = ()
        if prefetch and not self._foretold:
            forecast, self._foretold = self._forecast(view, self._others, running.remaining_s, running.expert), True
        count = self._joinable(view, running, now)
        join = Batch(running.expert, count, max(arrived_by, self._visit_began)) if count else None
        return Decision(join=join, prefetch=prefetch, forecast=forecast)

    def _joinable(self, view: QueueView, running: Running, now: float) -> int:
        """How many queued prompts of the running expert may join its batch without making another visit late."""
        room = max(min(view.max_batch - running.live, view.queues.depth(running.expert)), 0)
        slack = self._latest_start - now
        if slack - running.remaining_s < -OVERLOAD * self.max_wait:
            return room
        while room and max(running.remaining_s, view.costs.run_s(running.expert, room)) > slack:
            room -= 1
        return room

    def _known_visits(self, view: QueueView, without: str | None = None) -> list[Visit]:
        """A visit for each expert with waiting prompts; recomputed only where queue or residency has changed."""
        queues, resident = view.queues, view.resident
        if self._good_for is None or self._good_for[0] is not queues or self._good_for[1] != view.costs.version:
            self._visits.clear()
            self._good_for = (queues, view.costs.version)
        known, found = self._visits, []
        for expert, mark in queues.marks().items():
            visit = known.get(expert)
            if visit is None or visit.mark != mark or visit.resident != (expert in resident):
                known[expert] = visit = self._visit(view, expert, mark)
            if expert != without:
                found.append(visit)
        return found

    def _visit(self, view: QueueView, expert: str, mark: int) -> Visit:
        prompts, head, tail = view.queues.group(expert)
        run_s = view.costs.run_s(expert, prompts)
        due = head + self.max_wait
        if prompts > view.max_batch:
            # The last batch begins late in the visit, and its prompts have waited nearly as long as the first ones.
            due = min(due, tail + self.max_wait - (run_s - view.costs.run_s(expert, view.max_batch)))
        resident = expert in view.resident
        cost = max(run_s if resident else run_s + view.costs.load_s(expert), 1e-9)
        return Visit(expert, head, due, cost, resident, cost / prompts, mark)

    def _order(self, visits: list[Visit], begin: float, arrived_by: float) -> list[Visit]:
        """All visits: first the one to make at time `begin`, then the others in the order they would follow."""
        due_order = by_due(visits)
        late = begin - latest_start(due_order)
        if late > OVERLOAD * self.max_wait:
            return sorted(visits, key=lambda visit: (visit.head > arrived_by, not visit.resident, visit.head))
        patience = max(self.max_wait / PATIENCE, 1e-9)
        best = sorted(visits, key=lambda v: v.per_prompt / (1 + max(begin - v.head, 0.0) / patience) ** 2)
        for visit in best[:CANDIDATES]:
            if visit.head <= arrived_by and begin + visit.cost <= latest_start(due_order, without=visit):
                return [visit, *(other for other in best if other is not visit)]
        return due_order

    def _prefetch(self, view: QueueView, order: list[Visit]) -> tuple[str, ...]:
        return tuple(visit.expert for visit in order[: self.prefetch_depth] if visit.expert not in view.resident)

    def _forecast(
        self, view: QueueView, order: list[Visit], begin_in: float, running: str | None = None
    ) -> tuple[NextUse, ...]:
        probability = view.popularity.probability
        forecast = [] if running is None else [NextUse(running, 0.0, probability(running))]
        for visit in order:
            forecast.append(NextUse(visit.expert, begin_in, probability(visit.expert)))
            begin_in += visit.cost
        seen = {use.expert for use in forecast}
        forecast += [NextUse(one, float("inf"), probability(one)) for one in view.resident if one not in seen]
        return tuple(forecast)


def by_due(visits: Iterable[Visit]) -> list[Visit]:
    return sorted(visits, key=attrgetter("due", "head"))


def latest_start(due_order: Iterable[Visit], without: Visit | None = None) -> float:
    """The latest time at which the first visit can begin so that every visit, in this order, begins when it is due."""
    start, before = float("inf"), 0.0
    for visit in due_order:
        if visit is not without:
            if visit.due - before < start:
                start = visit.due - before
            before += visit.cost
    return start
