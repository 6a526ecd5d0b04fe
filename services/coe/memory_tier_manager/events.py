"""The events that change the tiers. Frozen plain values, so that a log of them can be replayed."""

from dataclasses import dataclass

from coe.platform.errors import CoEError


@dataclass(frozen=True, slots=True)
class Use:
    """A worker's forecast of its next use of an expert. `in_s` inf: no prompt is waiting for it."""

    expert: str
    in_s: float
    probability: float


@dataclass(frozen=True, slots=True)
class Resident:
    """An arena slot that holds all bytes of an expert."""

    expert: str
    nbytes: int
    slot: int
    offset: int
    generation: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """The arena was taken over from a manager that died; `residents` is what it holds. If present, the first event."""

    residents: tuple[Resident, ...]


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that a worker claims to hold."""

    lease: int
    expert: str
    slot: int
    generation: int


@dataclass(frozen=True, slots=True)
class Attach:
    """A worker attached. `attachment` distinguishes two processes of the same name. `held`: leases from before its
    stream broke or the manager died; those whose slot still has the same generation stay valid."""

    worker: str
    attachment: int
    held: tuple[Held, ...] = ()


@dataclass(frozen=True, slots=True)
class Detach:
    """A worker is gone: its leases end and its requests are refused."""

    worker: str
    attachment: int


@dataclass(frozen=True, slots=True)
class Acquire:
    """A lease request. `deadline`: on the clock of `now`; inf: none. `resident`: answer only when the last byte has
    arrived."""

    request: int
    worker: str
    expert: str
    nbytes: int
    resident: bool = False
    deadline: float = float("inf")
    forecast: tuple[Use, ...] = ()


@dataclass(frozen=True, slots=True)
class CancelAcquire:
    """The caller withdrew. A load that nobody else waits for is cancelled, and a cancelled load is always unloaded."""

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
    """The arena accepted the copy; from now on the slot has this generation."""

    expert: str
    generation: int


@dataclass(frozen=True, slots=True)
class CopyMoves:
    """The first bytes of a watched copy have arrived: its disk is responding."""

    expert: str
    generation: int


@dataclass(frozen=True, slots=True)
class CopyWaits:
    """The copy is far slower than the link: it is waiting for its disk. `generation` 0: the file is not open yet."""

    expert: str
    generation: int


@dataclass(frozen=True, slots=True)
class CopyEnded:
    """The copy ended: complete (`error` None), failed, or cancelled (after CancelCopy; `error` None too)."""

    expert: str
    generation: int
    error: CoEError | None = None


@dataclass(frozen=True, slots=True)
class Freed:
    """The slot's bytes are now actually free."""

    expert: str
    slot: int


@dataclass(frozen=True, slots=True)
class InDdr:
    """Reading the expert into DDR ended. `ok` False: it could not be read, or must not stay there."""

    expert: str
    ok: bool


@dataclass(frozen=True, slots=True)
class Replaced:
    """The expert's name now stands for the bytes of key `by` instead of those of key `expert` (see versions.py). `by`
    empty: the expert is no longer hosted."""

    expert: str
    by: str
    nbytes: int


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed: check deadlines, load timeouts and time to live."""


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
