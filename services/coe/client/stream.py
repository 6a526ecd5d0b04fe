"""The state of one prompt's stream: what came over the topics, in whatever order, becomes events in the right one.

Pure: no I/O, no clock. Chunks may repeat, skip or come late; completions and chunks travel on different topics. Text
that a reader has not taken yet is merged, so a slow reader costs memory only for the text of its own answer.
"""

from collections import deque
from collections.abc import Sequence
from copy import copy

from coe._proto import common_pb2, events_pb2
from coe.client.events import Completed, Event, Loading, Routed, Text


class PromptStream:
    """Feed it messages with `on_*`; take events from `pending` in order. Nothing follows `Completed`."""

    def __init__(self) -> None:
        self.pending: deque[Event] = deque()
        self.done = False
        self._routed: Routed | None = None
        # What came before the route.
        self._early: deque[Event] = deque()
        # Of the answer as its reader is told, and of the worker whose chunks it is made of.
        self._attempt = self._of_worker = 0
        self._next_sequence = 0
        self._whole = True
        self._text = ""
        self._logprobs: list[common_pb2.TokenLogprob] = []

    def joined(self) -> "PromptStream":
        """The stream of another reader, who comes later: the route and the text so far, then what comes."""
        other = copy(self)
        other.pending, other._early = deque(), deque()
        other._logprobs = list(self._logprobs)
        if self._routed is not None:
            other.pending.append(self._routed)
        if self._text or self._logprobs:
            other._coming.append(Text(self._text, self._attempt, tuple(self._logprobs)))
        return other

    def on_assigned(self, assigned: events_pb2.PromptAssigned) -> None:
        if self._routed is None and not self.done:
            self._route(Routed(assigned.routing, assigned.assignment))

    def on_chunk(self, chunk: events_pb2.TokenChunk) -> None:
        if self.done or chunk.attempt < self._of_worker:
            return
        # A worker that died soon after it had the prompt left no trace: the next one counts the same attempt.
        if chunk.attempt > self._of_worker or (chunk.sequence == 0 and self._next_sequence > 0):
            self._start(chunk.attempt)
            self._next_sequence, self._whole = 0, True
        if chunk.sequence < self._next_sequence:
            return
        # After a gap the streamed text can't be continued truthfully: the completion will bring the whole.
        self._whole = self._whole and chunk.sequence == self._next_sequence
        self._next_sequence = chunk.sequence + 1
        if chunk.WhichOneof("event") == "loading":
            self._coming.append(Loading(chunk.loading.expert_id, chunk.loading.tier))
        elif self._whole:
            self._append(chunk.text.text, chunk.text.logprobs)

    def on_completed(self, result: events_pb2.PromptCompleted) -> None:
        if self.done:
            return
        if self._routed is None and result.HasField("assignment"):
            self._route(Routed(result.routing, result.assignment))
        if result.WhichOneof("outcome") == "completion":
            self._append_missing(result.completion, result.attempt)
        self.done = True
        self.pending.extend((*self._early, Completed(result)))

    @property
    def routed(self) -> bool:
        return self._routed is not None

    @property
    def _coming(self) -> deque[Event]:
        return self._early if self._routed is None else self.pending

    def _route(self, routed: Routed) -> None:
        self._routed = routed
        self.pending.extend((routed, *self._early))
        self._early.clear()

    def _start(self, of_worker: int) -> None:
        self._of_worker, self._attempt = of_worker, max(of_worker, self._attempt + 1)
        self._text, self._logprobs = "", []

    def _append_missing(self, whole: events_pb2.PromptCompleted.Completion, attempt: int) -> None:
        """Streams what the chunks did not bring: the tail of the answer, or all of it as a new attempt."""
        goes_on = attempt == self._of_worker and whole.text.startswith(self._text)
        if not goes_on and whole.text != self._text:
            self._start(attempt)
        self._append(whole.text[len(self._text) :], whole.logprobs[len(self._logprobs) :])

    def _append(self, text: str, logprobs: Sequence[common_pb2.TokenLogprob]) -> None:
        if not text and not logprobs:
            return
        self._text += text
        self._logprobs.extend(logprobs)
        coming = self._coming
        last = coming[-1] if coming else None
        if isinstance(last, Text) and last.attempt == self._attempt:
            coming[-1] = Text(last.text + text, self._attempt, (*last.logprobs, *logprobs))
        else:
            coming.append(Text(text, self._attempt, tuple(logprobs)))
