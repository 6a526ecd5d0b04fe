"""CoServe's queue (arXiv 2503.02354, section 3.2): a prompt joins the group waiting for the same expert.

Groups are served to completion in the order they were formed, in batches of at most the worker's batch size. As
published, a batch is closed once it runs, its expert is loaded before it starts, and nothing is prefetched. The expert
with the lowest expected use is evicted first.
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
