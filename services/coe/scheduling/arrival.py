"""Policies that serve prompts in the order of their arrival, as shipped systems do."""

from coe.scheduling.policy import IDLE, Batch, Decision, QueueView


class OneByOne:
    """One prompt at a time, in order of arrival, nothing prefetched.

    With LRU eviction this is Samba-CoE (arXiv 2405.07518: an expert is copied, then run), with FIFO eviction CoServe's
    second baseline.
    """

    copy_first = True

    def __init__(self, name: str, eviction: str) -> None:
        self.name = name
        self.eviction = eviction

    def decide(self, view: QueueView, now: float) -> Decision:
        oldest = view.queues.oldest()
        if view.running is not None or oldest is None:
            return IDLE
        return Decision(run=Batch(oldest.expert, 1))


class HeadRun:
    """In order of arrival; prompts at the head of the line that want the same expert share a batch."""

    copy_first = False

    def __init__(self, name: str, eviction: str) -> None:
        self.name = name
        self.eviction = eviction

    def decide(self, view: QueueView, now: float) -> Decision:
        oldest = view.queues.oldest()
        if view.running is not None or oldest is None:
            return IDLE
        count = 0
        for prompt in view.queues.arrivals():
            if prompt.expert != oldest.expert or count == view.max_batch:
                break
            count += 1
        return Decision(run=Batch(oldest.expert, count))
