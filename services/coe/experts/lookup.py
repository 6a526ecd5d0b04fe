"""Guesses at the next tokens of a text from the text itself: what followed when its last tokens stood together before.

Answers quote their prompts and repeat themselves. A step that computes a few tokens of a sequence reads the weights no
more often than one that computes a single one, so right guesses are next to free: speculative decoding (arXiv
2211.17192) without a model that drafts.
"""

from array import array
from collections.abc import Iterable
from itertools import cycle, islice

# So many last tokens must have stood together.
WIDTH = 3
_BYTES = array("I").itemsize


class Lookup:
    """Grows with its text. As many tokens are guessed as were right last time, and one more."""

    def __init__(self, ids: Iterable[int]) -> None:
        self._text = bytearray()
        self._right = 0
        self.grow(ids)

    def grow(self, ids: Iterable[int]) -> None:
        """The text has these too."""
        self._text += array("I", ids).tobytes()

    def guess(self, most: int) -> tuple[int, ...]:
        """At most so many tokens that may come next."""
        count = min(most, self._right + 1)
        begin = self._found() if count > 0 else -1
        if begin < 0:
            return ()
        follows = memoryview(self._text[begin : begin + count * _BYTES]).cast("I")
        # Where that is the end, the text goes round.
        return tuple(islice(cycle(follows), count))

    def judge(self, right: int, guessed: int) -> None:
        """So many of the last guess were."""
        if guessed:
            self._right = right

    def _found(self) -> int:
        """The byte behind the last place where the last tokens stood before; -1 when they did not."""
        last = self._text[-WIDTH * _BYTES :]
        at = len(self._text) - 1
        while (at := self._text.rfind(last, 0, at)) >= 0:
            if at % _BYTES == 0:
                return at + len(last)
            at += len(last) - 1
        return -1
