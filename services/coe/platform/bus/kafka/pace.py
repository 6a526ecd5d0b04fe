"""Decides when transactions begin. Pure.

A transaction costs about 5 ms of CPU on client and broker together, however much it carries. A single completion is
committed at once, even if each prompt follows the previous one's answer. If several come together, those that complete
in the meantime join the next transaction, so that CPU cost grows with time rather than with the number of prompts.
"""

# Minimum interval. A transaction begun sooner is refused and retried while the broker writes the last one's markers.
LEAST_S = 0.02
# Average interval of transactions that carry several completions, and how many of them may begin ahead of schedule.
SUSTAINED_S = 0.05
AHEAD = 4


class Pace:
    """Schedules transactions. All times are in seconds, from the same clock."""

    def __init__(self, now: float) -> None:
        self._last = now - LEAST_S
        # When the transactions begun so far would all have begun at their average intervals.
        self._due = now

    def next_at(self) -> float:
        """When the next transaction may begin."""
        return max(self._last + LEAST_S, self._due - AHEAD * SUSTAINED_S)

    def begun(self, now: float, carried: int) -> None:
        """Records the start of a transaction that carries this many completions."""
        self._last = now
        self._due = max(self._due, now) + (SUSTAINED_S if carried > 1 else LEAST_S)
