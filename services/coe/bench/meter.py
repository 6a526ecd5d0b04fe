"""The steps of an engine, as a worker makes them."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from coe.expert_worker.effects import Emission
from coe.expert_worker.runners import Runner
from coe.experts.conversation import Conversation
from coe.experts.sampling_params import SamplingParams


@dataclass(slots=True)
class Span:
    """A step of an expert: `sequences` it had, and prompts that it took in before, and in how many seconds.

    `begun`: sequences that had a token before.
    """

    expert: str
    sequences: int
    begun: int
    added: int
    adding_s: float
    began: float
    ended: float = 0.0

    @property
    def seconds(self) -> float:
        return self.ended - self.began


@dataclass(slots=True)
class Meter:
    """The engine's steps."""

    spans: list[Span] = field(default_factory=list)

    @property
    def steps(self) -> int:
        return len(self.spans)

    @property
    def sequences(self) -> int:
        return sum(span.sequences for span in self.spans)

    @property
    def seconds(self) -> float:
        return sum(span.seconds for span in self.spans)

    @property
    def lone(self) -> list[Span]:
        """Decode steps of one sequence."""
        return [span for span in self.spans if span.sequences == span.begun == 1]


def pitches(spans: Sequence[Span]) -> Iterator[tuple[Span, float]]:
    """Decode steps that another one of the same sequences follows, and the seconds from one's begin to the other's."""
    for one, following in pairwise(spans):
        if one.expert == following.expert and one.begun == one.sequences == following.begun == following.sequences:
            yield one, following.began - one.began


@dataclass
class Metered:
    """A runner whose steps go into `meter`."""

    expert: str
    runner: Runner
    meter: Meter
    _added: int = field(default=0, init=False)
    _adding_s: float = field(default=0.0, init=False)
    _begun: set[str] = field(default_factory=set, init=False)

    @property
    def live(self) -> int:
        return self.runner.live

    def add(self, request_id: str, conversation: Conversation, sampling: SamplingParams) -> None:
        began = time.perf_counter()
        self.runner.add(request_id, conversation, sampling)
        self._added += 1
        self._adding_s += time.perf_counter() - began

    def step(self, lease: int) -> Sequence[Emission]:
        span = Span(self.expert, self.live, len(self._begun), self._added, self._adding_s, time.perf_counter())
        self._added, self._adding_s = 0, 0.0
        self.meter.spans.append(span)
        try:
            emissions = self.runner.step(lease)
        finally:
            span.ended = time.perf_counter()
        for one in emissions:
            (self._begun.add if one.finish_reason is None else self._begun.discard)(one.request_id)
        return emissions

    def cancel(self, request_id: str) -> None:
        self.runner.cancel(request_id)

    def close(self) -> None:
        self.runner.close()
