"""The words of the hierarchy."""

from enum import Enum, IntEnum


class Tier(IntEnum):
    """Values are those of coe.v1.Tier."""

    DISK = 1
    DDR = 2
    HBM = 3


class State(Enum):
    """Of an expert in HBM (one that is not there has no state)."""

    # Its extent is reserved; the copy waits for the link or runs.
    LOADING = "loading"
    RESIDENT = "resident"
    # Dropped or cancelled; the bytes are not free yet and must not be promised.
    FREEING = "freeing"
