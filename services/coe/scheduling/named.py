"""Creates a policy by the name that settings and commands use."""

from coe.scheduling.arrival import HeadRun, OneByOne
from coe.scheduling.coserve import CoServe
from coe.scheduling.lookahead import Lookahead
from coe.scheduling.policy import QueuePolicy

POLICIES = ("fifo", "samba-coe", "lru", "coserve", "lookahead")


def make_policy(name: str, *, max_wait: float = 20.0, prefetch_depth: int = 2) -> QueuePolicy:
    """`max_wait` (seconds) and `prefetch_depth` apply to `lookahead` only. Raises ValueError for an unknown name."""
    match name:
        case "fifo":
            return OneByOne("fifo", eviction="fifo")
        case "samba-coe":
            return OneByOne("samba-coe", eviction="lru")
        case "lru":
            return HeadRun("lru", eviction="lru")
        case "coserve":
            return CoServe()
        case "lookahead":
            return Lookahead(max_wait, prefetch_depth)
    raise ValueError(f"unknown policy {name!r}: one of {', '.join(POLICIES)}")
