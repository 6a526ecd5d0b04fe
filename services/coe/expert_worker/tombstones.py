"""Remembers cancellations that arrived before their prompts. Pure."""

from collections import OrderedDict

from coe.expert_worker.prompt import Prompt
from coe.platform.prompts import MAX_NAME_CHARS

# How many cancellations are remembered.
MAX_TOMBSTONES = 10_000
# A prompt submitted this long after a cancellation of its request id is a different prompt. Clocks differ by less.
TOMBSTONE_S = 60.0


class Tombstones:
    def __init__(self) -> None:
        # The time of the latest cancellation, by request id.
        self._cancelled_at: OrderedDict[str, float] = OrderedDict()

    def add(self, request_id: str, now: float) -> None:
        # Anyone may write to the topic, but no prompt has a longer id.
        if len(request_id) > MAX_NAME_CHARS:
            return
        self._cancelled_at[request_id] = now
        self._cancelled_at.move_to_end(request_id)
        if len(self._cancelled_at) > MAX_TOMBSTONES:
            self._cancelled_at.popitem(last=False)

    def take(self, prompt: Prompt) -> bool:
        """Whether the prompt was cancelled before it arrived. A cancellation applies to one prompt only."""
        cancelled_at = self._cancelled_at.pop(prompt.request_id, None)
        return cancelled_at is not None and prompt.submitted_at <= cancelled_at + TOMBSTONE_S
