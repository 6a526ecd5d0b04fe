"""Over how many replicas an expert's prompts are spread. Pure.

Prompts of one expert meet on one worker, which costs fewest weight copies, until its queue is long: then more keys,
and so more partitions and workers, share the load.
"""

import hashlib


def replica_count(queued: int, *, per_replica: int, most: int) -> int:
    """One replica for every `per_replica` prompts that wait for the expert, from 1 to `most`."""
    return max(1, min(most, 1 + queued // per_replica))


def pick_replica(affinity: str, count: int) -> int:
    """The same replica for the same affinity (a conversation, else a request) as long as the count stays."""
    return share_of(affinity) * count // 2**32


def in_share(identity: str, share: float) -> bool:
    """Whether this identity is among a fixed part `share` (0 to 1) of all."""
    return share_of(identity) < share * 2**32


def share_of(identity: str) -> int:
    """Evenly spread over 0 .. 2**32 - 1, the same in every process."""
    return int.from_bytes(hashlib.blake2b(identity.encode("utf-8", "surrogatepass"), digest_size=4).digest(), "big")
