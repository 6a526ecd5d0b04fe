"""The KV memory of all experts of a process, under one lock and one budget."""

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
    """A sequence's blocks in order; the first of them hold `path`, tokens that were computed before."""

    blocks: tuple[int, ...]
    path: tuple[CachedBlock, ...]


class ExpertKv:
    """One expert's share: blocks of its layout's cache, and what is known of its past. Made by SharedKv.expert."""

    def __init__(self, shared: "SharedKv", owner: KvOwner, weights: str) -> None:
        self.shared = shared
        self.owner = owner
        self.weights = weights
        self.cache = PrefixCache(owner.pool.block_tokens)

    def apart(self, past: str, *, batch_invariant: bool) -> "ExpertKv":
        """The same expert's, for sequences that know no other past than that of this name, or than what batch-invariant
        steps computed.
        """
        name = self.weights + (f" of {past!r}" if past else "") + (" batch-invariant" if batch_invariant else "")
        return self if name == self.weights else self.shared.expert(self.owner, name)

    def reserve(self, prompt: Sequence[int], tokens: int) -> Reservation:
        """Blocks for so many tokens, of which the prompt's are the first. Some may be computed already.

        Raises ContextExceeded when they can never fit, CapacityExceeded when not now.
        """
        return self.shared.reserve(self, prompt, tokens)

    def publish(self, reservation: Reservation, computed: Sequence[int]) -> Reservation:
        """Lets others use the whole blocks of a sequence that goes on; its `computed` tokens are in them."""
        return self.shared.publish(self, reservation, computed)

    def rematch(self, reservation: Reservation, prompt: Sequence[int]) -> Reservation:
        """Takes what others computed meanwhile in place of its own blocks, which are empty or hold the same."""
        return self.shared.rematch(self, reservation, prompt)

    def release(self, reservation: Reservation, computed: Sequence[int]) -> None:
        """Ends a sequence whose `computed` tokens are in its blocks: they are kept while nobody needs the room."""
        self.shared.release(self, reservation, computed)

    def discard(self, reservation: Reservation) -> None:
        """Ends a sequence whose past is worth nothing: nobody will find its blocks, nor those that it shared."""
        self.shared.discard(self, reservation)


class SharedKv:
    """Hands out blocks. What is only remembered gives way to what is wanted, least recently used first."""

    def __init__(self, kv_bytes: int) -> None:
        self.budget = KvBudget(kv_bytes)
        self._owners: list[KvOwner] = []
        # Those that somebody runs, or that have a past.
        self._experts: weakref.WeakValueDictionary[str, ExpertKv] = weakref.WeakValueDictionary()
        # Those with a past, least recently used first.
        self._past: OrderedDict[ExpertKv, None] = OrderedDict()
        self._lock = threading.Lock()

    def join(self, owner: KvOwner) -> None:
        with self._lock:
            self._owners.append(owner)

    def expert(self, owner: KvOwner, weights: str) -> ExpertKv:
        """The share of the expert with these weights. Replicas have one: they would compute the same."""
        with self._lock:
            expert = self._experts.get(weights)
            if expert is None:
                expert = self._experts[weights] = ExpertKv(self, owner, weights)
            return expert

    def reserve(self, expert: ExpertKv, prompt: Sequence[int], tokens: int) -> Reservation:
        pool = expert.owner.pool
        with self._lock:
            if tokens > pool.most_tokens:
                raise ContextExceeded(f"{tokens} tokens are more than this worker's KV cache can hold", tokens=tokens)
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
        # One without a block never gives way: there may be as many as tenants have names.
        if len(expert.cache):
            self._past.setdefault(expert)

    def _used(self, expert: ExpertKv) -> None:
        if expert in self._past:
            self._past.move_to_end(expert)

    def _make_room(self, owner: KvOwner, tokens: int) -> bool:
        """Whether `tokens` fit, after the past of the same layout's experts gave way, then that of the others'."""
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
        """Frees the expert's block that was unused longest, or all that nobody uses. False when there is none."""
        found = False
        while (block := expert.cache.evict()) is not None:
            found = True
            expert.owner.pool.release([block])
            if not everything:
                break
        if not len(expert.cache):
            self._past.pop(expert, None)
        return found
