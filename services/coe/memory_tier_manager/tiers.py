"""The tiers of the memory hierarchy, and the states of an expert in HBM."""

from enum import Enum, IntEnum


class Tier(IntEnum):
    """The values equal those of coe.v1.Tier."""

    DISK = 1
    DDR = 2
    HBM = 3


class State(Enum):
    """The state of an expert in HBM; an expert that is not there has none."""

    # Its extent is reserved; its copy is waiting for the link or running.
    LOADING = "loading"
    RESIDENT = "resident"
    # Evicted or cancelled; its bytes are not free yet and must not be promised.
    FREEING = "freeing"
