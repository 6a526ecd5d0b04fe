"""CoServe's queue (arXiv 2503.02354, section 3.2): a prompt joins the group that waits for the same expert.

Groups are served in the order they were formed, each to its end, in batches of at most the worker's size. As
published, a batch is closed once it runs, its expert is switched in before, and nothing is prefetched. Experts are
evicted by lowest expected use.
"""

from coe.scheduling.policy import IDLE, Batch, Decision, NextUse, QueueView


class CoServe:
    name = "coserve"
    eviction = "probability"
    copy_first = True

    def decide(self, view: QueueView, now: float) -> Decision:
        oldest = view.queues.oldest()
        if view.running is not None or oldest is None:
            return IDLE
        expert = view.last if view.last is not None and view.queues.depth(view.last) else oldest.expert
        forecast = tuple(
            NextUse(resident, float("inf"), view.popularity.probability(resident)) for resident in view.resident
        )
        return Decision(run=Batch(expert, view.max_batch), forecast=forecast)
