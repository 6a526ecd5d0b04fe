"""Our policy: the queue is the future, so group by expert, prefetch what runs next, and tell the evictor what is far.

A *visit* serves the prompts of one expert. Which visit comes next is the one that answers most prompts a second (an
expert in HBM costs no load, a long queue shares one), as long as every other visit can still begin in time: a prompt is
due `max_wait` after it arrived. `latest_start` is the classic backward pass of earliest-deadline-first scheduling.
When that leaves no choice the earliest due visit runs.

Two bounds follow, both tested over random traces:
* while prompts served one by one in order of arrival would begin within `max_wait`, they do here too, give or take
  the generation that is running;
* always, overloaded or not: no prompt is overtaken by one that arrived more than `max_wait` after it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from coe.scheduling.policy import IDLE, Batch, Decision, NextUse, QueueView, Running

# Predicted lateness, as a part of max_wait, from which the worker is taken to be overloaded: keeping to due times would
# then only add switches, so visits are made whole, in rounds of max_wait.
OVERLOAD = 0.25
# Visits that are tried, best first, before the earliest due one is taken.
CANDIDATES = 4


@dataclass(slots=True)
class Visit:
    """Serving the queue of one expert. `due`: when it must begin; `cost`: seconds with its load, if any."""

    expert: str
    prompts: int
    head: float
    due: float
    cost: float
    resident: bool

    @property
    def rate(self) -> float:
        return self.prompts / self.cost


class Lookahead:
    name = "lookahead"
    eviction = "next-use"
    copy_first = False

    def __init__(self, max_wait: float = 20.0, prefetch_depth: int = 2) -> None:
        self.max_wait = max_wait
        self.prefetch_depth = prefetch_depth
        # What was last seen to wait beside the running expert, in the order of its visits.
        self._seen: tuple[str, int, int] | None = None
        self._others: list[Visit] = []
        self._latest_start = float("inf")

    def decide(self, view: QueueView, now: float) -> Decision:
        oldest = view.queues.oldest()
        if oldest is None:
            return IDLE
        arrived_by = oldest.enqueued_at + self.max_wait
        if view.running is not None:
            return self._while_running(view, view.running, now, arrived_by)
        visits = self._visits(view)
        order = self._order(visits, now, arrived_by)
        batch = Batch(order[0].expert, view.max_batch, arrived_by)
        self._seen = None
        return Decision(run=batch, prefetch=self._prefetch(view, order[1:]), forecast=self._forecast(view, order, 0.0))

    def _while_running(self, view: QueueView, running: Running, now: float, arrived_by: float) -> Decision:
        # Asked at every step: what waits for other experts is only looked at again when it has changed.
        seen = (running.expert, view.queues.changes_beside(running.expert), id(view.queues))
        forecast: tuple[NextUse, ...] = ()
        if seen != self._seen:
            others = self._visits(view, without=running.expert)
            self._seen, self._latest_start = seen, latest_start(by_due(others))
            self._others = self._order(others, now + running.remaining_s, arrived_by) if others else []
            forecast = self._forecast(view, self._others, running.remaining_s, running.expert)
        count = self._joinable(view, running, now)
        join = Batch(running.expert, count, arrived_by) if count else None
        return Decision(join=join, prefetch=self._prefetch(view, self._others), forecast=forecast)

    def _joinable(self, view: QueueView, running: Running, now: float) -> int:
        """How many queued prompts of the running expert may join its batch without making another visit late."""
        room = min(view.max_batch - running.live, view.queues.depth(running.expert))
        if room <= 0 or not self._others:
            return max(room, 0)
        slack = self._latest_start - now
        if slack - running.remaining_s < -OVERLOAD * self.max_wait:
            return room
        while room and max(running.remaining_s, view.costs.run_s(running.expert, room)) > slack:
            room -= 1
        return room

    def _visits(self, view: QueueView, without: str | None = None) -> list[Visit]:
        queues, costs, found = view.queues, view.costs, []
        for expert in queues.experts():
            if expert == without:
                continue
            prompts, head = queues.depth(expert), queues.head(expert).enqueued_at
            run_s = costs.run_s(expert, prompts)
            due = head + self.max_wait
            if prompts > view.max_batch:
                # The last batch begins late in the visit, and its prompts have waited nearly as long as the first.
                last_begins = run_s - costs.run_s(expert, view.max_batch)
                due = min(due, queues.tail(expert).enqueued_at + self.max_wait - last_begins)
            resident = expert in view.resident
            cost = run_s if resident else run_s + costs.load_s(expert)
            found.append(Visit(expert, prompts, head, due, max(cost, 1e-9), resident))
        return found

    def _order(self, visits: list[Visit], begin: float, arrived_by: float) -> list[Visit]:
        """All visits, the one to make at time `begin` first, the others as they would follow as things stand."""
        due_order = by_due(visits)
        late = begin - latest_start(due_order)
        if late > OVERLOAD * self.max_wait:
            return sorted(visits, key=lambda visit: (visit.head > arrived_by, not visit.resident, visit.head))
        best = sorted(visits, key=lambda visit: -visit.rate)
        for visit in best[:CANDIDATES]:
            if visit.head <= arrived_by and begin + visit.cost <= latest_start(
                other for other in due_order if other is not visit
            ):
                return [visit, *(other for other in best if other is not visit)]
        return due_order

    def _prefetch(self, view: QueueView, order: list[Visit]) -> tuple[str, ...]:
        return tuple(visit.expert for visit in order[: self.prefetch_depth] if visit.expert not in view.resident)

    def _forecast(
        self, view: QueueView, order: list[Visit], begin_in: float, running: str | None = None
    ) -> tuple[NextUse, ...]:
        forecast, seen = [], set()
        if running is not None:
            seen.add(running)
            forecast.append(NextUse(running, 0.0, view.popularity.probability(running)))
        for visit in order:
            seen.add(visit.expert)
            forecast.append(NextUse(visit.expert, begin_in, view.popularity.probability(visit.expert)))
            begin_in += visit.cost
        for expert in view.resident:
            if expert not in seen:
                forecast.append(NextUse(expert, float("inf"), view.popularity.probability(expert)))
        return tuple(forecast)


def by_due(visits: Iterable[Visit]) -> list[Visit]:
    return sorted(visits, key=lambda visit: (visit.due, visit.head))


def latest_start(due_order: Iterable[Visit]) -> float:
    """The latest time at which the first visit can begin so that all, in this order, begin by their due times."""
    start = float("inf")
    for visit in reversed(list(due_order)):
        start = min(visit.due, start - visit.cost)
    return start
