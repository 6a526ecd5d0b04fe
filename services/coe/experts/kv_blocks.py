"""Which blocks of the KV cache belong to whom, within one budget of bytes for all architectures of the process."""

import heapq
from dataclasses import dataclass, field


@dataclass
class KvBudget:
    """Bytes that all pools together may have touched. A pool takes from it as its highest block in use grows."""

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
    """Blocks of one KV array. The lowest free block goes first, so that untouched memory stays untouched."""

    budget: KvBudget
    block_bytes: int
    block_tokens: int
    blocks: int
    _free: list[int] = field(default_factory=list)
    # Blocks below this were used once: their memory is taken whether they are free or not.
    _touched: int = 0
    _used: int = 0

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.block_tokens)

    def can_reserve(self, tokens: int) -> bool:
        fresh = max(0, self.blocks_for(tokens) - len(self._free))
        return self._touched + fresh <= self.blocks and self.budget.can_take(fresh * self.block_bytes)

    @property
    def most_tokens(self) -> int:
        """So many fit when nothing else is there."""
        return min(self.blocks, self.budget.limit // self.block_bytes) * self.block_tokens

    def reserve(self, tokens: int) -> list[int]:
        """Blocks for so many tokens. Only after can_reserve."""
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
        """Blocks that were reserved and not released."""
        return self._used

    @property
    def idle(self) -> bool:
        return self._used == 0

    def can_forget(self) -> bool:
        return self.idle and self._touched > 0

    def forget(self) -> None:
        """Gives the budget back. Only after can_forget, and together with the memory itself."""
        self.budget.give_back(self._touched * self.block_bytes)
        self._free.clear()
        self._touched = 0

    def check_integrity(self) -> None:
        """Every touched block is either free or used, once."""
        if len(set(self._free)) != len(self._free) or len(self._free) + self._used != self._touched:
            raise AssertionError(f"{len(self._free)} free and {self._used} used of {self._touched} blocks")
