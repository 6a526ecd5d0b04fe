"""The KV memory of all layouts of a process, under one lock and one budget."""

import threading
from typing import Protocol

from coe.experts.kv_blocks import BlockPool, KvBudget
from coe.platform.errors import CapacityExceeded, ContextExceeded


class KvOwner(Protocol):
    """A layout's KV cache."""

    pool: BlockPool

    def forget_kv(self) -> None: ...


class SharedKv:
    """Reserves blocks; memory that an idle layout once touched is given back when another needs it."""

    def __init__(self, kv_bytes: int) -> None:
        self.budget = KvBudget(kv_bytes)
        self._owners: list[KvOwner] = []
        self._lock = threading.Lock()

    def join(self, owner: KvOwner) -> None:
        with self._lock:
            self._owners.append(owner)

    def reserve(self, owner: KvOwner, tokens: int) -> list[int]:
        """Blocks for so many tokens. Raises ContextExceeded when they can never fit, CapacityExceeded when not now."""
        with self._lock:
            if not owner.pool.could_ever_reserve(tokens):
                raise ContextExceeded(f"{tokens} tokens are more than this worker's KV cache can hold", tokens=tokens)
            if not owner.pool.can_reserve(tokens):
                self._forget_idle()
            if not owner.pool.can_reserve(tokens):
                raise CapacityExceeded("the KV cache is full")
            return owner.pool.reserve(tokens)

    def release(self, owner: KvOwner, blocks: list[int]) -> None:
        with self._lock:
            owner.pool.release(blocks)

    def _forget_idle(self) -> None:
        for owner in self._owners:
            if owner.pool.can_forget():
                owner.forget_kv()
