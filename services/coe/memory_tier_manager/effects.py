"""What the core wants done. The runtime performs effects in order, at once, and feeds back events."""

from dataclasses import dataclass

from coe.memory_tier_manager.tiers import Tier
from coe.platform.errors import CoEError


@dataclass(frozen=True, slots=True)
class StartCopy:
    """Copy the expert's weights into the arena. Answered by CopyStarted, later by CopyEnded.

    `part_of`: only the first `nbytes` of that expert. `part_slot`: holds the first bytes already. `watched`: CopyMoves
    is to tell when the first bytes come, for they are not all in memory.
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
        """Whose weights file it is."""
        return self.part_of or self.expert


@dataclass(frozen=True, slots=True)
class CancelCopy:
    """Stop the copy. Answered by CopyEnded."""

    expert: str
    slot: int


@dataclass(frozen=True, slots=True)
class Free:
    """Give the slot's bytes back. Answered by Freed."""

    expert: str
    slot: int


@dataclass(frozen=True, slots=True)
class ReadIntoDdr:
    """Map, read ahead and lock the weights file. Answered by InDdr. Copies may start from it at once."""

    expert: str


@dataclass(frozen=True, slots=True)
class DropFromDdr:
    """Unlock and close the weights file; nothing copies from it."""

    expert: str


@dataclass(frozen=True, slots=True)
class Grant:
    """Answers an Acquire. `copied`: bytes this call caused to be copied; `waited_s`: seconds it waited for room."""

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
    """Nobody asked: a pin does not fit beside the others any more (its expert has other bytes), or does again."""

    expert: str
    nbytes: int
    held: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """The expert is in another tier or state than it was, or its pin changed: tell the watchers."""

    expert: str


@dataclass(frozen=True, slots=True)
class TimedOut:
    """A load took too long: who waited for it was told. Its copy is cancelled, and ends when its disk answers."""

    expert: str
    error: CoEError


@dataclass(frozen=True, slots=True)
class Evicted:
    """An expert left HBM. `age_s`: since its last use (ModelMesh's age at eviction)."""

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
