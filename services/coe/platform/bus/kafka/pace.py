"""How often transactions begin. Pure.

A transaction costs some 5 ms of CPU over client and broker, however much it carries. Whatever comes alone begins at
once; under load what completes meanwhile joins the next one, so that CPU grows with time and not with prompts.
"""

# Begun sooner, the next would only be refused and tried again: the markers of the last one are being written.
LEAST_S = 0.02
# On average, of a process that is busy all the time, and how many may come before their time.
SUSTAINED_S = 0.05
AHEAD = 4


class Pace:
    """Times are of one clock, in seconds."""

    def __init__(self, now: float) -> None:
        self._last = now - LEAST_S
        # When as many as have begun would have, at the sustained rate.
        self._due = now

    def next_at(self) -> float:
        """When the next transaction may begin."""
        return max(self._last + LEAST_S, self._due - AHEAD * SUSTAINED_S)

    def begun(self, now: float) -> None:
        self._last = now
        self._due = max(self._due, now) + SUSTAINED_S
