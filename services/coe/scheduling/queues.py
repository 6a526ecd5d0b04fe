"""The prompts waiting on one worker: a queue per expert, plus the order of arrival across all of them."""

import heapq
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from coe.platform.errors import CapacityExceeded

# Slack before the deadline heap is purged of entries whose prompts no longer wait.
MIN_DEADLINES = 1024


@dataclass(frozen=True, slots=True)
class QueuedPrompt:
    """`key` identifies the prompt to its owner. Times are seconds on one monotonic clock; `deadline` inf: none."""

    key: str
    expert: str
    enqueued_at: float
    deadline: float = float("inf")


class ExpertQueues:
    """Bounded. Every operation on a prompt is O(1), or O(log n) where a deadline is involved.

    Prompts must be pushed in order of `enqueued_at`.
    """

    def __init__(self, capacity: int = 100_000) -> None:
        self._capacity = capacity
        self._arrivals: OrderedDict[str, QueuedPrompt] = OrderedDict()
        self._queues: dict[str, OrderedDict[str, QueuedPrompt]] = {}
        self._deadlines: list[tuple[float, str]] = []
        self._changes = 0
        self._changes_of: dict[str, int] = {}
        # For each expert with waiting prompts: the value of `_changes` when its queue last changed.
        self._marks: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._arrivals)

    def __contains__(self, key: str) -> bool:
        return key in self._arrivals

    def push(self, prompt: QueuedPrompt) -> None:
        """Raises CapacityExceeded when full, ValueError when the key is already queued."""
        if len(self._arrivals) >= self._capacity:
            raise CapacityExceeded(f"{self._capacity} prompts are already waiting", queued=len(self._arrivals))
        if prompt.key in self._arrivals:
            raise ValueError(f"prompt {prompt.key} is already queued")
        self._arrivals[prompt.key] = prompt
        queue = self._queues.get(prompt.expert)
        if queue is None:
            queue = self._queues[prompt.expert] = OrderedDict()
        queue[prompt.key] = prompt
        self._count_change(prompt.expert)
        if prompt.deadline != float("inf"):
            heapq.heappush(self._deadlines, (prompt.deadline, prompt.key))
            if len(self._deadlines) > 2 * len(self._arrivals) + MIN_DEADLINES:
                self._forget_deadlines()

    def take(self, expert: str, count: int, arrived_by: float = float("inf")) -> list[QueuedPrompt]:
        """Removes up to `count` prompts of the expert, oldest first, none that arrived after `arrived_by`."""
        taken: list[QueuedPrompt] = []
        queue = self._queues.get(expert)
        while queue and len(taken) < count:
            prompt = next(iter(queue.values()))
            if prompt.enqueued_at > arrived_by:
                break
            self._drop(queue, prompt)
            taken.append(prompt)
        return taken

    def remove(self, key: str) -> QueuedPrompt | None:
        """Removes and returns one prompt (its client disconnected, say); None if it is not queued."""
        prompt = self._arrivals.get(key)
        if prompt is not None:
            self._drop(self._queues[prompt.expert], prompt)
        return prompt

    def expire(self, now: float) -> list[QueuedPrompt]:
        """Removes and returns the prompts whose deadline has passed."""
        expired: list[QueuedPrompt] = []
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, key = heapq.heappop(self._deadlines)
            prompt = self._arrivals.get(key)
            if prompt is not None and prompt.deadline == deadline:
                self._drop(self._queues[prompt.expert], prompt)
                expired.append(prompt)
        return expired

    def experts(self) -> Iterator[str]:
        """Experts with at least one prompt waiting."""
        return iter(self._queues)

    def depth(self, expert: str) -> int:
        queue = self._queues.get(expert)
        return len(queue) if queue is not None else 0

    def depths(self) -> dict[str, int]:
        return {expert: len(queue) for expert, queue in self._queues.items()}

    def head(self, expert: str) -> QueuedPrompt:
        """The expert's oldest prompt. KeyError when none waits."""
        return next(iter(self._queues[expert].values()))

    def marks(self) -> Mapping[str, int]:
        """For each expert with waiting prompts, a number that changes whenever its queue does."""
        return self._marks

    def group(self, expert: str) -> tuple[int, float, float]:
        """The number of prompts waiting for the expert, and the arrival times of the oldest and the newest. KeyError
        when none waits."""
        queue = self._queues[expert]
        oldest = next(iter(queue.values()))
        youngest = oldest if len(queue) == 1 else next(reversed(queue.values()))
        return len(queue), oldest.enqueued_at, youngest.enqueued_at

    def arrivals(self) -> Iterator[QueuedPrompt]:
        """All prompts in order of arrival."""
        return iter(self._arrivals.values())

    def changes_beside(self, expert: str) -> int:
        """Grows whenever the queue of any other expert changes."""
        return self._changes - self._changes_of.get(expert, 0)

    def oldest(self) -> QueuedPrompt | None:
        return next(iter(self._arrivals.values()), None)

    def _forget_deadlines(self) -> None:
        """Purges the deadlines of prompts that no longer wait: they may lie days ahead."""
        self._deadlines = [(deadline, key) for deadline, key in self._deadlines if key in self._arrivals]
        heapq.heapify(self._deadlines)

    def _drop(self, queue: OrderedDict[str, QueuedPrompt], prompt: QueuedPrompt) -> None:
        del self._arrivals[prompt.key]
        del queue[prompt.key]
        self._count_change(prompt.expert)
        if not queue:
            del self._queues[prompt.expert], self._marks[prompt.expert]

    def _count_change(self, expert: str) -> None:
        self._changes += 1
        self._changes_of[expert] = self._changes_of.get(expert, 0) + 1
        self._marks[expert] = self._changes
