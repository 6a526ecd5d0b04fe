"""Finds KV blocks of earlier sequences by their tokens, so that a shared prefix is not computed again.

Each expert has its own tree of complete blocks, because keys and values depend on its weights. If results depend on the
rest of the batch (in the fourth digit), sequences with a seed have a separate tree.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class CachedBlock:
    """A block whose tokens follow those of `parent`. It may be evicted when it has no users."""

    block: int
    tokens: tuple[int, ...]
    parent: "CachedBlock | None"
    children: "dict[tuple[int, ...], CachedBlock]" = field(default_factory=dict)
    users: int = 0


class PrefixCache:
    """Not thread-safe: its owner's lock guards it."""

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._roots: dict[tuple[int, ...], CachedBlock] = {}
        # Blocks without users, least recently used first. A path is added from its end to its root, so a child never
        # outlives its parent.
        self._idle: OrderedDict[CachedBlock, None] = OrderedDict()
        self._known = 0

    def __len__(self) -> int:
        return self._known

    def match(self, ids: Sequence[int], path: Sequence[CachedBlock] = ()) -> list[CachedBlock]:
        """Extends `path`, which is in use, with the longest run of cached blocks that match `ids`, and marks them as
        used.

        At least the last token is left to compute, because its logits are needed.
        """
        longer = list(path)
        for start in range(len(path) * self._block_tokens, len(ids) - self._block_tokens, self._block_tokens):
            found = self._children(longer).get(tuple(ids[start : start + self._block_tokens]))
            if found is None:
                break
            found.users += 1
            self._idle.pop(found, None)
            longer.append(found)
        return longer

    def publish(self, path: Sequence[CachedBlock], ids: Sequence[int], blocks: Sequence[int]) -> list[CachedBlock]:
        """Adds the complete blocks of a running sequence, which keeps using them. Returns the extended `path`.

        `ids` are its computed tokens, `blocks` all its blocks. Stops before a block that another sequence has added.
        """
        longer = list(path)
        for start in range(len(path) * self._block_tokens, len(ids) - self._block_tokens + 1, self._block_tokens):
            tokens = tuple(ids[start : start + self._block_tokens])
            siblings = self._children(longer)
            if tokens in siblings:
                break
            siblings[tokens] = CachedBlock(blocks[len(longer)], tokens, longer[-1] if longer else None, users=1)
            self._known += 1
            longer.append(siblings[tokens])
        return longer

    def unuse(self, path: Sequence[CachedBlock]) -> None:
        for cached in path:
            cached.users -= 1
        self._rest(path)

    def adopt(self, path: Sequence[CachedBlock], ids: Sequence[int], blocks: Sequence[int]) -> list[int]:
        """Takes over the complete blocks of a finished sequence, which no longer uses its `path`.

        `ids` are its computed tokens, `blocks` all its blocks, those of the path first. Returns the blocks to free:
        incomplete ones, and duplicates of cached ones.
        """
        self.unuse(path)
        longer = list(path)
        known = len(longer)
        whole = len(ids) // self._block_tokens
        surplus = list(blocks[max(known, whole) :])
        for index in range(known, whole):
            tokens = tuple(ids[index * self._block_tokens : (index + 1) * self._block_tokens])
            siblings = self._children(longer)
            if tokens in siblings:
                surplus.append(blocks[index])
            else:
                siblings[tokens] = CachedBlock(blocks[index], tokens, longer[-1] if longer else None)
                self._known += 1
            longer.append(siblings[tokens])
        self._rest(longer)
        return surplus

    def forget(self, path: Sequence[CachedBlock]) -> list[int]:
        """Stops using the path, and removes its blocks that have no other users, with all their descendants.

        Returns the blocks to free.
        """
        self.unuse(path)
        first = next((cached for cached in path if cached.users == 0), None)
        if first is None:
            return []
        freed: list[int] = []
        following = [first]
        while following:
            cached = following.pop()
            following += cached.children.values()
            del self._idle[cached]
            freed.append(cached.block)
        del (first.parent.children if first.parent else self._roots)[first.tokens]
        self._known -= len(freed)
        return freed

    def evict(self) -> int | None:
        """Evicts the least recently used block and returns it; None when all are in use."""
        if not self._idle:
            return None
        cached, _ = self._idle.popitem(last=False)
        siblings = cached.parent.children if cached.parent else self._roots
        del siblings[cached.tokens]
        self._known -= 1
        return cached.block

    def _children(self, path: Sequence[CachedBlock]) -> dict[tuple[int, ...], CachedBlock]:
        return path[-1].children if path else self._roots

    def _rest(self, path: Sequence[CachedBlock]) -> None:
        for cached in reversed(path):
            if cached.users == 0:
                self._idle[cached] = None
                self._idle.move_to_end(cached)
