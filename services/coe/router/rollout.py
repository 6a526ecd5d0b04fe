"""Rollout of a new artifact: the current one decides, or, for a share of the prompts, a candidate on trial."""

import threading
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from coe._proto import common_pb2

_SCALE = 1 << 32


class Judge(Protocol):
    """Makes routing decisions; usually an artifact's classifier.

    `classify` blocks and returns one decision per text, in order.
    """

    @property
    def version(self) -> str: ...

    @property
    def categories(self) -> Sequence[str]: ...

    def classify(self, texts: Sequence[str]) -> list[common_pb2.RoutingDecision]: ...


@dataclass(frozen=True, slots=True)
class Difference:
    """The two decisions for a prompt on whose category current and candidate disagree."""

    current: common_pb2.RoutingDecision
    candidate: common_pb2.RoutingDecision


class Rollout:
    """Classifies with the current judge and, if there is one, a candidate. Thread-safe.

    The candidate judges every prompt (shadow mode) and decides a share of them, `canary_share`, 0 to 1. The share is
    drawn by a hash of the text, so the same text always gets the same judge. `observe` is called with each difference.
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
        """Replaces the current judge. Batches in progress finish with the one they started with."""
        with self._lock:
            self._current = current

    def try_out(self, candidate: Judge) -> None:
        """Puts a candidate on trial, replacing any other."""
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
    """Whether the text's hash falls into the first `share` of the hash range."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass")) < share * _SCALE
