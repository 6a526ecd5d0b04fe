"""Prompts that have not started: queued by expert for the policy, and indexed by key and by request id. Pure."""

from collections.abc import Iterator

from coe.expert_worker.prompt import Prompt
from coe.scheduling import ExpertQueues, QueuedPrompt


class Waiting:
    """Bounded. Operations on one prompt take O(1), or O(log n) where a deadline is involved."""

    def __init__(self) -> None:
        # The part that the policy sees.
        self.queues = ExpertQueues()
        self._prompts: dict[str, Prompt] = {}
        # By request id, then by key: a client may reuse an id.
        self._of_request: dict[str, dict[str, Prompt]] = {}

    def __len__(self) -> int:
        return len(self._prompts)

    def __iter__(self) -> Iterator[Prompt]:
        """In order of arrival."""
        return iter(self._prompts.values())

    def push(self, prompt: Prompt) -> None:
        """Raises CapacityExceeded when full."""
        self.queues.push(QueuedPrompt(prompt.key, prompt.expert_id, prompt.taken_at, prompt.deadline))
        self._prompts[prompt.key] = prompt
        self._of_request.setdefault(prompt.request_id, {})[prompt.key] = prompt

    def take(self, expert_id: str, count: int, arrived_by: float = float("inf")) -> list[Prompt]:
        """Removes up to `count` prompts of the expert, oldest first, none that arrived after `arrived_by`."""
        return [self._forget(queued.key) for queued in self.queues.take(expert_id, count, arrived_by)]

    def expire(self, now: float) -> list[Prompt]:
        """Removes and returns the prompts whose deadline has passed."""
        return [self._forget(queued.key) for queued in self.queues.expire(now)]

    def remove(self, key: str) -> bool:
        """Removes a prompt. Returns whether it was waiting here."""
        if self.queues.remove(key) is None:
            return False
        self._forget(key)
        return True

    def of_request(self, request_id: str) -> list[Prompt]:
        return list(self._of_request.get(request_id, {}).values())

    def first(self, expert_id: str) -> Prompt | None:
        """The expert's oldest waiting prompt."""
        return self._prompts[self.queues.head(expert_id).key] if self.queues.depth(expert_id) else None

    def _forget(self, key: str) -> Prompt:
        prompt = self._prompts.pop(key)
        others = self._of_request[prompt.request_id]
        del others[key]
        if not others:
            del self._of_request[prompt.request_id]
        return prompt
