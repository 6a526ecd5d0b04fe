"""Policies that serve prompts in order of arrival, as shipped systems do."""

from abc import ABC, abstractmethod
from itertools import islice, takewhile

from coe.scheduling.policy import IDLE, Batch, Decision, QueueView


class _InOrder(ABC):
    """Runs the expert of the oldest prompt next, and prefetches nothing."""

    copy_first: bool

    def __init__(self, name: str, eviction: str) -> None:
        self.name = name
        self.eviction = eviction

    def decide(self, view: QueueView, now: float) -> Decision:
        oldest = view.queues.oldest()
        if view.running is not None or oldest is None:
            return IDLE
        return Decision(run=Batch(oldest.expert, self._together(view, oldest.expert)))

    @abstractmethod
    def _together(self, view: QueueView, expert: str) -> int:
        """How many of the expert's prompts go into the batch."""


class OneByOne(_InOrder):
    """One prompt at a time.

    With LRU eviction this is Samba-CoE (arXiv 2405.07518: an expert is copied, then run), with FIFO eviction CoServe's
    second baseline.
    """

    copy_first = True

    def _together(self, view: QueueView, expert: str) -> int:
        return 1


class HeadRun(_InOrder):
    """Consecutive prompts at the head of the queue that want the same expert share a batch."""

    copy_first = False

    def _together(self, view: QueueView, expert: str) -> int:
        of_expert = takewhile(lambda prompt: prompt.expert == expert, view.queues.arrivals())
        return len(list(islice(of_expert, view.max_batch)))
