"""What the core wants done. The runtime performs effects immediately and in order, and feeds back events."""

from dataclasses import dataclass

from coe.memory_tier_manager.tiers import Tier
from coe.platform.errors import CoEError


@dataclass(frozen=True, slots=True)
class StartCopy:
    """Copy the expert's weights into the arena. Answered by CopyStarted, later by CopyEnded.

    `part_of`: copy only the first `nbytes` of that expert. `part_slot`: a slot that already holds the first bytes.
    `watched`: report the arrival of the first bytes with CopyMoves, because not all bytes are in memory.
    """

    expert: str
    slot: int
    offset: int
    nbytes: int
    part_of: str = ""
    part_slot: int | None = None
    watched: bool = False

    @property
    def source(self) -> str:
        """The expert whose weights file is copied."""
        return self.part_of or self.expert


@dataclass(frozen=True, slots=True)
class CancelCopy:
    """Stop the copy. Answered by CopyEnded."""

    expert: str
    slot: int


@dataclass(frozen=True, slots=True)
class Free:
    """Free the slot's bytes. Answered by Freed."""

    expert: str
    slot: int


@dataclass(frozen=True, slots=True)
class ReadIntoDdr:
    """Map, read ahead and lock the weights file. Answered by InDdr. Copies may read from it right away."""

    expert: str


@dataclass(frozen=True, slots=True)
class DropFromDdr:
    """Unlock and close the weights file; no copy is reading from it."""

    expert: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Answers an Acquire. `copied`: bytes that this request caused to be copied. `waited_s`: its wait for room."""

    request: int
    worker: str
    lease: int
    expert: str
    slot: int
    generation: int
    found_in: Tier
    copied: int
    waited_s: float


@dataclass(frozen=True, slots=True)
class Reject:
    """Answers an Acquire, Prefetch or Pin with an error."""

    request: int
    error: CoEError


@dataclass(frozen=True, slots=True)
class Prefetched:
    """Answers a Prefetch."""

    request: int
    started: bool
    found_in: Tier


@dataclass(frozen=True, slots=True)
class Done:
    """Answers a Pin."""

    request: int


@dataclass(frozen=True, slots=True)
class PinHeld:
    """Unsolicited: a pin no longer fits alongside the others (its expert was reimported), or fits again."""

    expert: str
    nbytes: int
    held: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """The expert's tier, state or pin has changed: notify the watchers."""

    expert: str


@dataclass(frozen=True, slots=True)
class TimedOut:
    """A load timed out; its waiters were rejected. Its copy is cancelled, and ends when the disk responds."""

    expert: str
    error: CoEError


@dataclass(frozen=True, slots=True)
class Evicted:
    """An expert left HBM. `age_s`: seconds since its last use (ModelMesh's age at eviction)."""

    expert: str
    nbytes: int
    age_s: float
    reason: str


Effect = (
    StartCopy
    | CancelCopy
    | Free
    | ReadIntoDdr
    | DropFromDdr
    | Grant
    | Reject
    | Prefetched
    | Done
    | PinHeld
    | Changed
    | TimedOut
    | Evicted
)
