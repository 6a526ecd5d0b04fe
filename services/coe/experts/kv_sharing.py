"""The KV cache of all experts in a process, under one lock and one budget."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from coe.experts.kv_blocks import BlockPool, KvBudget
from coe.experts.prefix_cache import CachedBlock, PrefixCache
from coe.platform.errors import CapacityExceeded, ContextExceeded


class KvOwner(Protocol):
    """A layout's KV cache."""

    pool: BlockPool

    def forget_kv(self) -> None: ...


@dataclass(frozen=True)
class Reservation:
    """A sequence's blocks in order. The first of them are those of `path`: tokens that were computed before."""

    blocks: tuple[int, ...]
    path: tuple[CachedBlock, ...]


class ExpertKv:
    """One expert's share: blocks of its layout's cache, and its prefix cache. Made by SharedKv.expert."""

    def __init__(self, shared: "SharedKv", owner: KvOwner, weights: str) -> None:
        self.shared = shared
        self.owner = owner
        self.weights = weights
        self.cache = PrefixCache(owner.pool.block_tokens)

    def apart(self, past: str, *, batch_invariant: bool) -> "ExpertKv":
        """A share of the same expert with a separate prefix cache: one for each name in `past`, and one for sequences
        that may only use what batch-invariant steps computed.
        """
        name = self.weights + (f" of {past!r}" if past else "") + (" batch-invariant" if batch_invariant else "")
        return self if name == self.weights else self.shared.expert(self.owner, name)

    def reserve(self, prompt: Sequence[int], tokens: int) -> Reservation:
        """Blocks for `tokens` tokens, starting with the prompt's. Some may already be computed.

        Raises ContextExceeded when they can never fit, CapacityExceeded when they don't fit now.
        """
        return self.shared.reserve(self, prompt, tokens)

    def publish(self, reservation: Reservation, computed: Sequence[int]) -> Reservation:
        """Lets others use the complete blocks of a running sequence, which hold its `computed` tokens."""
        return self.shared.publish(self, reservation, computed)

    def rematch(self, reservation: Reservation, prompt: Sequence[int]) -> Reservation:
        """Replaces blocks, which are empty or hold the same, by those that others computed meanwhile."""
        return self.shared.rematch(self, reservation, prompt)

    def release(self, reservation: Reservation, computed: Sequence[int]) -> None:
        """Ends a sequence whose blocks hold its `computed` tokens. They stay cached until the room is needed."""
        self.shared.release(self, reservation, computed)

    def discard(self, reservation: Reservation) -> None:
        """Ends a sequence whose KV is unusable: its blocks, and those it shared, are removed from the prefix cache."""
        self.shared.discard(self, reservation)


class SharedKv:
    """Hands out blocks. Cached blocks without users are evicted when room is needed, least recently used first."""

    def __init__(self, kv_bytes: int) -> None:
        self.budget = KvBudget(kv_bytes)
        self._owners: list[KvOwner] = []
        # Those in use, or with cached blocks.
        self._experts: weakref.WeakValueDictionary[str, ExpertKv] = weakref.WeakValueDictionary()
        # Those with cached blocks, least recently used first.
        self._past: OrderedDict[ExpertKv, None] = OrderedDict()
        self._lock = threading.Lock()

    def join(self, owner: KvOwner) -> None:
        with self._lock:
            self._owners.append(owner)

    def expert(self, owner: KvOwner, weights: str) -> ExpertKv:
        """The share of the expert with these weights. Replicas have one in common: they would compute the same."""
        with self._lock:
            expert = self._experts.get(weights)
            if expert is None:
                expert = self._experts[weights] = ExpertKv(self, owner, weights)
            return expert

    def reserve(self, expert: ExpertKv, prompt: Sequence[int], tokens: int) -> Reservation:
        pool = expert.owner.pool
        with self._lock:
            if tokens > pool.most_tokens:
                raise ContextExceeded(f"{tokens} tokens exceed this worker's whole KV cache", tokens=tokens)
            self._used(expert)
            path = expert.cache.match(prompt)
            rest = tokens - len(path) * pool.block_tokens
            if not self._make_room(expert.owner, rest):
                expert.cache.unuse(path)
                raise CapacityExceeded("the KV cache is full")
            return Reservation((*(cached.block for cached in path), *pool.reserve(rest)), tuple(path))

    def publish(self, expert: ExpertKv, reservation: Reservation, computed: Sequence[int]) -> Reservation:
        with self._lock:
            path = expert.cache.publish(reservation.path, computed, reservation.blocks)
            self._remember(expert)
            return Reservation(reservation.blocks, tuple(path))

    def rematch(self, expert: ExpertKv, reservation: Reservation, prompt: Sequence[int]) -> Reservation:
        with self._lock:
            path = expert.cache.match(prompt, reservation.path)
            expert.owner.pool.release(list(reservation.blocks[len(reservation.path) : len(path)]))
            return Reservation((*(cached.block for cached in path), *reservation.blocks[len(path) :]), tuple(path))

    def release(self, expert: ExpertKv, reservation: Reservation, computed: Sequence[int]) -> None:
        with self._lock:
            surplus = expert.cache.adopt(reservation.path, computed, reservation.blocks)
            self._remember(expert)
            expert.owner.pool.release(surplus)

    def discard(self, expert: ExpertKv, reservation: Reservation) -> None:
        with self._lock:
            forgotten = expert.cache.forget(reservation.path)
            expert.owner.pool.release([*forgotten, *reservation.blocks[len(reservation.path) :]])

    def _remember(self, expert: ExpertKv) -> None:
        # One without blocks would never be evicted, and tenants may name any number of them.
        if len(expert.cache):
            self._past.setdefault(expert)

    def _used(self, expert: ExpertKv) -> None:
        if expert in self._past:
            self._past.move_to_end(expert)

    def _make_room(self, owner: KvOwner, tokens: int) -> bool:
        """Whether `tokens` fit, after evicting cached blocks of this layout's experts, then of the others if needed."""
        while not owner.pool.can_reserve(tokens):
            if not any(self._evict(expert) for expert in list(self._past) if expert.owner is owner):
                break
        if not owner.pool.can_reserve(tokens):
            self._forget_others(owner)
        return owner.pool.can_reserve(tokens)

    def _forget_others(self, owner: KvOwner) -> None:
        for expert in list(self._past):
            if expert.owner is not owner:
                self._evict(expert, everything=True)
        for other in self._owners:
            if other.pool.can_forget():
                other.forget_kv()

    def _evict(self, expert: ExpertKv, *, everything: bool = False) -> bool:
        """Frees the expert's least recently used block without users, or all such blocks. False if there is none."""
        found = False
        while (block := expert.cache.evict()) is not None:
            found = True
            expert.owner.pool.release([block])
            if not everything:
                break
        if not len(expert.cache):
            self._past.pop(expert, None)
        return found
