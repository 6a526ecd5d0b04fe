"""The open weights files. A file is opened in another thread (looks.py), because its file system may not respond."""

from collections.abc import Callable, Container
from functools import partial
from typing import Protocol

from coe.memory_tier_manager.arena import Source
from coe.memory_tier_manager.looks import Looks
from coe.platform.errors import CoEError, TierLoadError

OnOpen = Callable[[Source | CoEError], None]


class Opener(Protocol):
    def open(self, expert: str) -> Source:
        """Opens the weights file of a key (versions.py); called in a thread. Raises CoEError."""
        ...


class Sources:
    """The open files by key. Each is opened once, however many users it has."""

    def __init__(self, library: Opener, looks: Looks) -> None:
        self._library = library
        self._looks = looks
        self._open: dict[str, Source] = {}
        self._wanted: dict[str, list[OnOpen]] = {}

    @property
    def opening(self) -> bool:
        return bool(self._wanted)

    def __getitem__(self, expert: str) -> Source:
        return self._open[expert]

    def when_open(self, expert: str, then: OnOpen) -> None:
        """Calls `then` with the file or the error; immediately if the file is already open."""
        if (source := self._open.get(expert)) is not None:
            then(source)
            return
        first = expert not in self._wanted
        self._wanted.setdefault(expert, []).append(then)
        if first:
            self._looks.begin(f"opening {expert}", partial(self._library.open, expert), partial(self._opened, expert))

    def close_one(self, expert: str) -> None:
        source = self._open.pop(expert, None)
        if source is not None:
            source.close()

    def close(self, *, but: Container[str]) -> None:
        """Closes all files except `but`, which are being read."""
        for expert in [expert for expert in self._open if expert not in but]:
            self.close_one(expert)

    def _opened(self, expert: str, result: Source | Exception) -> None:
        if not isinstance(result, Exception):
            self._open[expert] = result
        elif not isinstance(result, CoEError):
            result = TierLoadError(f"cannot open the weights of {expert}: {result}", expert=expert)
        for then in self._wanted.pop(expert):
            if expert not in self._open and not isinstance(result, CoEError):
                result = TierLoadError(f"the weights of {expert} were closed in the meantime: try again", expert=expert)
            then(result)
