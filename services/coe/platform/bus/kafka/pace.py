"""How often transactions begin. Pure.

A transaction costs some 5 ms of CPU over client and broker, however much it carries. What comes alone begins at once,
also when the next one follows its answer; where several come together, what completes meanwhile joins the next
transaction, so that CPU grows with time and not with prompts.
"""

# Begun sooner, the next would only be refused and tried again: the markers of the last one are being written.
LEAST_S = 0.02
# On average, of those that carry several, and how many may come before their time.
SUSTAINED_S = 0.05
AHEAD = 4


class Pace:
    """Times are of one clock, in seconds."""

    def __init__(self, now: float) -> None:
        self._last = now - LEAST_S
        # When as many as have begun would have, at their rates.
        self._due = now

    def next_at(self) -> float:
        """When the next transaction may begin."""
        return max(self._last + LEAST_S, self._due - AHEAD * SUSTAINED_S)

    def begun(self, now: float, carried: int) -> None:
        """`carried`: completions in it."""
        self._last = now
        self._due = max(self._due, now) + (SUSTAINED_S if carried > 1 else LEAST_S)
