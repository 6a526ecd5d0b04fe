"""Prints one answer to stdout. A streamed answer may restart, so only a terminal gets it as it arrives."""

import sys

from coe.cli.console import err


class Streamed:
    """To a file or pipe, which programs read, the answer is written whole when complete, or not at all."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._attempt = 0
        self._text = ""

    def add(self, text: str, attempt: int) -> None:
        """A higher `attempt` than before restarts the answer."""
        if attempt > self._attempt:
            if self._text and self._live:
                err.print("\n[dim]the answer restarts[/dim]")
            self._attempt, self._text = attempt, ""
        self._text += text
        if self._live:
            sys.stdout.write(text)
            sys.stdout.flush()

    def end(self, whole: str | None) -> None:
        """`whole`: the complete answer, or None if it broke off. Leaves the cursor at the start of a line."""

        if not self._live and whole is not None:
            sys.stdout.write(whole)
        if whole is not None or (self._live and self._text):
            sys.stdout.write("\n")
            sys.stdout.flush()
