"""The text of one answer on stdout. What was streamed of it may begin anew: only a terminal gets it as it comes."""

import sys

from coe.cli.console import err


class Streamed:
    """On a file or pipe the answer appears at its end, whole, and none where it has no end: programs read it there."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._attempt = 0
        self._text = ""

    def add(self, text: str, attempt: int) -> None:
        """A higher `attempt` than before: the answer begins anew."""
        if attempt > self._attempt:
            if self._text and self._live:
                err.print("\n[dim]the answer begins anew[/dim]")
            self._attempt, self._text = attempt, ""
        self._text += text
        if self._live:
            sys.stdout.write(text)
            sys.stdout.flush()

    def end(self, whole: str | None) -> None:
        """`whole`: the answer, None when it broke off. What is said next begins a line."""
        if not self._live and whole is not None:
            sys.stdout.write(whole)
        if whole is not None or (self._live and self._text):
            sys.stdout.write("\n")
            sys.stdout.flush()
