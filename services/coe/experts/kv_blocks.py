"""Allocates blocks of the KV cache, within one budget of bytes for all layouts of the process."""

import heapq
from dataclasses import dataclass, field


@dataclass
class KvBudget:
    """The bytes that all pools together may touch. A pool takes from it when it uses blocks for the first time."""

    limit: int
    taken: int = 0

    def can_take(self, nbytes: int) -> bool:
        return self.taken + nbytes <= self.limit

    def take(self, nbytes: int) -> None:
        if not self.can_take(nbytes):
            raise AssertionError(f"{nbytes} bytes taken, {self.limit - self.taken} left")
        self.taken += nbytes

    def give_back(self, nbytes: int) -> None:
        self.taken -= nbytes


@dataclass
class BlockPool:
    """Blocks of one KV array. Hands out the lowest free block first, so that untouched memory stays untouched."""

    budget: KvBudget
    block_bytes: int
    block_tokens: int
    blocks: int
    _free: list[int] = field(default_factory=list)
    # Blocks below this have been used: their memory is allocated whether they are free or not.
    _touched: int = 0
    _used: int = 0

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)

    def can_reserve(self, tokens: int) -> bool:
        fresh = max(0, self.blocks_for(tokens) - len(self._free))
        return self._touched + fresh <= self.blocks and self.budget.can_take(fresh * self.block_bytes)

    @property
    def most_tokens(self) -> int:
        """Tokens that fit if nothing else is in the cache."""
        return min(self.blocks, self.budget.limit // self.block_bytes) * self.block_tokens

    def reserve(self, tokens: int) -> list[int]:
        """Blocks for this many tokens. Call only after can_reserve."""
        count = self.blocks_for(tokens)
        taken = [heapq.heappop(self._free) for _ in range(min(count, len(self._free)))]
        fresh = count - len(taken)
        self.budget.take(fresh * self.block_bytes)
        taken += range(self._touched, self._touched + fresh)
        self._touched += fresh
        self._used += count
        return taken

    def release(self, blocks: list[int]) -> None:
        for block in blocks:
            heapq.heappush(self._free, block)
        self._used -= len(blocks)

    @property
    def used(self) -> int:
        """Blocks that are reserved and not yet released."""
        return self._used

    @property
    def idle(self) -> bool:
        return self._used == 0

    def can_forget(self) -> bool:
        return self.idle and self._touched > 0

    def forget(self) -> None:
        """Returns the budget. Call only after can_forget, and release the memory with it."""
        self.budget.give_back(self._touched * self.block_bytes)
        self._free.clear()
        self._touched = 0

    def check_integrity(self) -> None:
        """Checks that every touched block is either free or used, exactly once."""
        if len(set(self._free)) != len(self._free) or len(self._free) + self._used != self._touched:
            raise AssertionError(f"{len(self._free)} free and {self._used} used of {self._touched} blocks")
