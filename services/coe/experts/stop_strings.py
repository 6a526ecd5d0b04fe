"""Cuts a text off before the first stop string, regardless of token boundaries."""

from collections.abc import Sequence


class StopStrings:
    """Holds back generated text that may be the start of a stop string."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Text that is safe to send. After a stop string, `stopped` is set and there is no more text."""
        if self.stopped:
            return ""
        self._held += text
        ends = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if ends:
            self.stopped = True
            released, self._held = self._held[: min(ends)], ""
            return released
        keep = self._possible_start()
        released, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return released

    def flush(self) -> str:
        """The text held back, once generation has ended."""
        released, self._held = self._held, ""
        return released

    def _possible_start(self) -> int:
        """Length of the longest suffix of the held text that is the start of a stop string."""
        longest = max((len(stop) for stop in self._stops), default=0) - 1
        for size in range(min(longest, len(self._held)), 0, -1):
            end = self._held[-size:]
            if any(stop.startswith(end) for stop in self._stops):
                return size
        return 0
