"""Cancellations that came before their prompts. Pure."""

from collections import OrderedDict

from coe.expert_worker.prompt import Prompt
from coe.platform.prompts import MAX_NAME_CHARS

# As many are remembered.
MAX_TOMBSTONES = 10_000
# A prompt that was submitted so long after the cancellation of its name is another one. Clocks differ by less.
TOMBSTONE_S = 60.0


class Tombstones:
    def __init__(self) -> None:
        # By request id: when it was cancelled last.
        self._cancelled_at: OrderedDict[str, float] = OrderedDict()

    def add(self, request_id: str, now: float) -> None:
        # Anybody may write a cancellation; no prompt has a longer name.
        if len(request_id) > MAX_NAME_CHARS:
            return
        self._cancelled_at[request_id] = now
        self._cancelled_at.move_to_end(request_id)
        if len(self._cancelled_at) > MAX_TOMBSTONES:
            self._cancelled_at.popitem(last=False)

    def take(self, prompt: Prompt) -> bool:
        """Whether it was cancelled before it came. One cancellation is one prompt's."""
        cancelled_at = self._cancelled_at.pop(prompt.request_id, None)
        return cancelled_at is not None and prompt.submitted_at <= cancelled_at + TOMBSTONE_S
