"""Prompt lookup: guesses the next tokens from what followed the last tokens when they occurred earlier in the text.

Answers quote their prompts and repeat themselves. A step that computes a few tokens of a sequence reads the weights
only once, as a step for a single token does, so right guesses are nearly free: speculative decoding (arXiv 2211.17192)
without a draft model.
"""

from array import array
from collections.abc import Iterable
from itertools import cycle, islice

# Number of last tokens that must match an earlier place.
WIDTH = 3
_BYTES = array("I").itemsize


class Lookup:
    """Grows with its text. Guesses one more token than were right last time."""

    def __init__(self, ids: Iterable[int]) -> None:
        self._text = bytearray()
        self._right = 0
        self.grow(ids)

    def grow(self, ids: Iterable[int]) -> None:
        """Appends tokens to the text."""
        self._text += array("I", ids).tobytes()

    def guess(self, most: int) -> tuple[int, ...]:
        """Up to `most` tokens that may come next."""
        count = min(most, self._right + 1)
        begin = self._found() if count > 0 else -1
        if begin < 0:
            return ()
        follows = memoryview(self._text[begin : begin + count * _BYTES]).cast("I")
        # If the text ends before `count` tokens, repeat: the text is periodic.
        return tuple(islice(cycle(follows), count))

    def judge(self, right: int, guessed: int) -> None:
        """Reports how many of the last `guessed` tokens were right."""
        if guessed:
            self._right = right

    def _found(self) -> int:
        """Byte offset after the latest earlier occurrence of the last tokens; -1 if there is none."""
        last = self._text[-WIDTH * _BYTES :]
        at = len(self._text) - 1
        while (at := self._text.rfind(last, 0, at)) >= 0:
            if at % _BYTES == 0:
                return at + len(last)
            at += len(last) - 1
        return -1
