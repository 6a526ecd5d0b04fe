"""What can happen to the tiers. Frozen and plain, so that a log of them can be read and replayed."""

from dataclasses import dataclass

from coe.platform.errors import CoEError


@dataclass(frozen=True, slots=True)
class Use:
    """A worker's word on when it wants an expert next. `in_s` inf: nothing waits for it."""

    expert: str
    in_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class Resident:
    """A slot of the arena that holds all bytes of an expert."""

    expert: str
    nbytes: int
    slot: int
    offset: int
    generation: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """The arena is that of a manager that died; this is what it holds. The first event, if it comes at all."""

    residents: tuple[Resident, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A lease as its worker knows it."""

    lease: int
    expert: str
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Attach:
    """A worker process came. `attachment` tells two processes of one name apart. `held`: leases that it has from before
    its stream, or the manager, broke; those whose slot still has their generation go on."""

    worker: str
    attachment: int
    held: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True)
class Detach:
    """A worker process is gone: its leases end, its requests are forgotten."""

    worker: str
    attachment: int


@dataclass(frozen=True, slots=True)
class Acquire:
    """`deadline` in the clock of `now`; inf for none. `resident`: answer only when the last byte has arrived."""

    request: int
    worker: str
    expert: str
    nbytes: int
    resident: bool = False
    deadline: float = float("inf")
    forecast: tuple[Use, ...] = ()


@dataclass(frozen=True, slots=True)
class CancelAcquire:
    """The caller gave up. A load nobody else waits for is cancelled, and a cancelled load always unloads."""

    request: int


@dataclass(frozen=True, slots=True)
class Release:
    worker: str
    lease: int


@dataclass(frozen=True, slots=True)
class Prefetch:
    request: int
    worker: str
    expert: str
    nbytes: int
    may_evict: bool
    forecast: tuple[Use, ...] = ()


@dataclass(frozen=True, slots=True)
class Pin:
    request: int
    expert: str
    nbytes: int
    pinned: bool


@dataclass(frozen=True, slots=True)
class CopyStarted:
    """The arena accepted the load; from here on the slot has this generation."""

    expert: str
    generation: int


@dataclass(frozen=True, slots=True)
class CopyMoves:
    """The first bytes of a watched copy have come: its disk answers."""

    expert: str
    generation: int


@dataclass(frozen=True, slots=True)
class CopyWaits:
    """The copy moves far fewer bytes than the link could: it waits for its disk. `generation` 0: no file is open."""

    expert: str
    generation: int


@dataclass(frozen=True, slots=True)
class CopyEnded:
    """The copy is over: whole (`error` None), failed, or cancelled (`error` None too, after CancelCopy)."""

    expert: str
    generation: int
    error: CoEError | None = None


@dataclass(frozen=True, slots=True)
class Freed:
    """The slot's bytes are really free."""

    expert: str
    slot: int


@dataclass(frozen=True, slots=True)
class InDdr:
    """Reading the expert into DDR ended; `ok` False when it could not be read."""

    expert: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Replaced:
    """The expert's name stands for the bytes `by` now, not for those of `expert` any more (keys of versions.py). `by`
    empty: for none, it is hosted no more."""

    expert: str
    by: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed: deadlines, load timeouts, time to live."""


Event = (
    Adopt
    | Attach
    | Detach
    | Acquire
    | CancelAcquire
    | Release
    | Prefetch
    | Pin
    | CopyStarted
    | CopyMoves
    | CopyWaits
    | CopyEnded
    | Freed
    | InDdr
    | Replaced
    | Tick
)
