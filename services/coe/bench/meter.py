"""Records the steps of an engine as a worker runs them."""

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
    """A step of an expert with `sequences`, of which `begun` already had a token.

    `added` and `adding_s`: prompts that were accepted just before the step, and the seconds that took.
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
    """The recorded steps of the engine."""

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
        """Decode steps with a single sequence."""
        return [span for span in self.spans if span.sequences == span.begun == 1]


def pitches(spans: Sequence[Span]) -> Iterator[tuple[Span, float]]:
    """Yields decode steps followed by another of the same sequences, with the seconds from start to start."""
    for one, following in pairwise(spans):
        if one.expert == following.expert and one.begun == one.sequences == following.begun == following.sequences:
            yield one, following.began - one.began


@dataclass
class Metered:
    """A runner that records its steps in `meter`."""

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
