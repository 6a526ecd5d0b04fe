"""Finds KV blocks of earlier sequences by the tokens they hold: a conversation's past is not computed again.

A tree of whole blocks, one an expert: keys and values depend on its weights. Where the bits of a token depend on what
shares its step (in the fourth digit), sequences with a seed have a tree of their own.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(eq=False)
class CachedBlock:
    """A block whose tokens follow those of `parent`. It may be dropped when nobody uses it."""

    block: int
    tokens: tuple[int, ...]
    parent: "CachedBlock | None"
    children: "dict[tuple[int, ...], CachedBlock]" = field(default_factory=dict)
    users: int = 0


class PrefixCache:
    """Not safe between threads: its owner's lock guards it."""

    def __init__(self, block_tokens: int) -> None:
        self._block_tokens = block_tokens
        self._roots: dict[tuple[int, ...], CachedBlock] = {}
        # Those that nobody uses, least recently used first. A path joins them from its end to its root, so a child
        # never outlives its parent.
        self._idle: OrderedDict[CachedBlock, None] = OrderedDict()
        self._known = 0

    def __len__(self) -> int:
        return self._known

    def match(self, ids: Sequence[int], path: Sequence[CachedBlock] = ()) -> list[CachedBlock]:
        """`path`, which is in use, and the longest known run of whole blocks that `ids` go on with, in use from now on.

        At least the last token is left to compute: its logits are needed.
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
        """Makes the whole blocks of a sequence known that goes on using them: `path`, made longer.

        `ids` are its computed tokens, `blocks` all its blocks. Ends before a block that another made known first.
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
        """Takes over the whole blocks of a finished sequence, whose `path` it stops using.

        `ids` are its computed tokens, `blocks` all its blocks, those of the path first. Returns the blocks to free:
        what is not whole, and what is known already.
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
        """Stops using the path and forgets those of its blocks that others don't use, with all that follows them.

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
        """Forgets the block that was unused longest and says which; None when all are in use."""
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
