"""The port to the memory that holds the weights; tests/contract/arena_suite.py says what it keeps."""

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Copy(Protocol):
    """A copy under way. After a failure or a cancel its slot is free again by itself."""

    @property
    def generation(self) -> int: ...

    @property
    def bytes_copied(self) -> int:
        """So far, from the source."""
        ...

    @property
    def failure(self) -> Exception | None: ...

    def wait(self, timeout_s: float) -> bool: ...

    def cancel(self) -> None: ...


class Source(Protocol):
    """A weights file, mapped. `tag`: tells these bytes from all others, for whoever adopts the arena.

    `loaded`: all of it was copied, and was right.
    """

    @property
    def tag(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    def lock(self) -> bool: ...

    def loaded(self) -> None: ...

    def close(self) -> None: ...


class Arena(Protocol):
    """`epoch`: of its bytes; a manager that adopts the arena of a dead one keeps it, and leases of the epoch go on."""

    name: str
    capacity: int
    slots: int
    epoch: int

    def copy(
        self, slot: int, offset: int, source: Source, nbytes: int | None = None, part_slot: int | None = None
    ) -> Copy:
        """Starts a copy into a free slot, of the first `nbytes` only if given. Raises CoEError.

        `part_slot`: a resident slot with the first bytes of the same source. They come from there; it must stay.
        """
        ...

    def is_resident(self, slot: int) -> bool: ...

    def free(self, slot: int) -> None:
        """Of a resident slot."""
        ...

    def close(self) -> None: ...


class Facts(NamedTuple):
    """What tells an expert's weights from all others, and their size."""

    tag: int
    nbytes: int


class Library(Protocol):
    """Where the expert's weights file is, and how it is opened."""

    def open(self, expert: str) -> Source:
        """Of the weights that it has now. Raises CoEError."""
        ...

    def look(self, expert: str) -> Facts:
        """As they are now. Raises CoEError: ExpertNotFound when it is hosted no more."""
        ...

    def changed(self, experts: Iterable[str]) -> list[str]:
        """Those that `look` will see otherwise than when it looked last. Safe in another thread."""
        ...

    def experts(self) -> dict[str, Facts]:
        """All that are hosted."""
        ...
