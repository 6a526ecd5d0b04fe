"""Prints an answer to stdout. A streamed answer may restart, so only a terminal gets it as it arrives."""

import sys

from coe.cli.console import err


class Streamed:
    """Writes to a terminal as text arrives; to a file or pipe, only a complete answer, all at once."""

    def __init__(self) -> None:
        self._live = sys.stdout.isatty()
        self._attempt = 0
        self._text = ""

    def add(self, text: str, attempt: int) -> None:
        """Adds text. A higher `attempt` than before restarts the answer."""
        if attempt > self._attempt:
            if self._text and self._live:
                err.print("\n[dim]the answer restarts[/dim]")
            self._attempt, self._text = attempt, ""
        self._text += text
        if self._live:
            sys.stdout.write(text)
            sys.stdout.flush()

    def end(self, whole: str | None) -> None:
        """Ends the answer on a new line. `whole`: the complete answer, or None if it broke off."""

        if not self._live and whole is not None:
            sys.stdout.write(whole)
        if whole is not None or (self._live and self._text):
            sys.stdout.write("\n")
            sys.stdout.flush()
