"""Interfaces to the memory that holds the weights and to the files they come from.

tests/contract/arena_suite.py specifies what every implementation must do.
"""

from collections.abc import Iterable
from typing import NamedTuple, Protocol


class Copy(Protocol):
    """A copy in progress. If it fails or is cancelled, its slot frees itself."""

    @property
    def generation(self) -> int: ...

    @property
    def bytes_copied(self) -> int:
        """Bytes copied from the source so far."""
        ...

    @property
    def failure(self) -> Exception | None: ...

    def wait(self, timeout_s: float) -> bool: ...

    def cancel(self) -> None: ...


class Source(Protocol):
    """A mapped weights file. `tag` identifies its contents, also to a later manager that adopts the arena.

    `loaded` is called when the whole file has been copied and verified.
    """

    @property
    def tag(self) -> int: ...

    @property
    def nbytes(self) -> int: ...

    def lock(self) -> bool: ...

    def loaded(self) -> None: ...

    def close(self) -> None: ...


class Arena(Protocol):
    """`epoch` identifies the arena's contents. A manager that adopts a dead manager's arena keeps its epoch, so leases
    of that epoch stay valid."""

    name: str
    capacity: int
    slots: int
    epoch: int

    def copy(
        self, slot: int, offset: int, source: Source, nbytes: int | None = None, part_slot: int | None = None
    ) -> Copy:
        """Starts a copy into a free slot, of only the first `nbytes` if given. Raises CoEError.

        `part_slot`: a resident slot that holds the first bytes of the same source. They are copied from there; it must
        stay resident until the copy ends.
        """
        ...

    def is_resident(self, slot: int) -> bool: ...

    def free(self, slot: int) -> None:
        """Frees a resident slot."""
        ...

    def close(self) -> None: ...


class Facts(NamedTuple):
    """The tag that identifies an expert's weights, and their size."""

    tag: int
    nbytes: int


class Library(Protocol):
    """Finds and opens experts' weights files."""

    def open(self, expert: str) -> Source:
        """Opens the expert's current weights. Raises CoEError."""
        ...

    def look(self, expert: str) -> Facts:
        """The facts of its current weights. Raises CoEError; ExpertNotFound if the expert is no longer hosted."""
        ...

    def changed(self, experts: Iterable[str]) -> list[str]:
        """The experts whose files have changed since the last `look`. Thread-safe."""
        ...

    def experts(self) -> dict[str, Facts]:
        """All hosted experts."""
        ...
