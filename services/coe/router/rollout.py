"""Which artifact answers: the current one, or for a share of the prompts a candidate that is tried beside it."""

import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from coe._proto import common_pb2

_SCALE = 1 << 32


class Judge(Protocol):
    """What decides: an artifact's classifier, as a rule. `classify` blocks and gives one decision a text, in order."""

    @property
    def version(self) -> str: ...

    @property
    def categories(self) -> Sequence[str]: ...

    def classify(self, texts: Sequence[str]) -> list[common_pb2.RoutingDecision]: ...


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the candidate would have sent a prompt elsewhere."""

    current: common_pb2.RoutingDecision
    candidate: common_pb2.RoutingDecision


class Rollout:
    """Thread safe. A candidate judges every prompt (shadow mode) and decides `canary_share` of them, 0 to 1.

    The share is taken by the text, so the same prompt always has the same judge. `observe` hears each difference.
    """

    def __init__(
        self,
        current: Judge,
        candidate: Judge | None = None,
        *,
        canary_share: float = 0.0,
        observe: Callable[[Difference], None] = lambda difference: None,
    ) -> None:
        self._lock = threading.Lock()
        self._current = current
        self._candidate = candidate
        self._canary_share = canary_share
        self._observe = observe

    @property
    def current(self) -> Judge:
        with self._lock:
            return self._current

    def replace(self, current: Judge) -> None:
        """Batches under way finish with the classifier they began with."""
        with self._lock:
            self._current = current

    def try_out(self, candidate: Judge) -> None:
        """Beside the current one, in place of another candidate."""
        with self._lock:
            self._candidate = candidate

    def classify(self, texts: Sequence[str]) -> list[common_pb2.RoutingDecision]:
        with self._lock:
            current, candidate = self._current, self._candidate
        decisions = current.classify(texts)
        if candidate is None:
            return decisions
        tried = candidate.classify(texts)
        for ours, theirs in zip(decisions, tried, strict=True):
            if ours.category != theirs.category:
                self._observe(Difference(ours, theirs))
        return [
            theirs if in_share(text, self._canary_share) else ours
            for text, ours, theirs in zip(texts, decisions, tried, strict=True)
        ]


def in_share(text: str, share: float) -> bool:
    """Whether the text belongs to the first `share` of all texts, by its hash."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) < share * _SCALE
