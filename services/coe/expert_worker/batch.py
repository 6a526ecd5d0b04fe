"""The batch of the running expert: its live sequences, what each has generated, and what each has cost. Pure."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from coe.expert_worker.effects import Answer, Effect, Emission, Finish, Grant, Loading, Spent, Text
from coe.expert_worker.prompt import Prompt
from coe.experts.logprobs import TokenLogprob
from coe.platform.errors import Cancelled, CoEError, DeadlineExceeded

# Minimum seconds between chunks of a stream: nobody reads faster, and each chunk is a message to broker and gateway.
CHUNK_S = 0.02


@dataclass(slots=True)
class Sequence:
    """One live prompt. The copy of the weights is charged to a single prompt: the first to join after the lease."""

    prompt: Prompt
    started_at: float
    load_s: float
    found_in: str
    copied: Grant | None
    first_token_at: float | None = None
    chunks: int = 0
    tokens: int = 0
    # Log probabilities of its tokens, if requested, and how many of them have been sent.
    logprobs: list[TokenLogprob] = field(default_factory=list)
    logprobs_sent: int = 0
    guessed: int = 0
    right: int = 0
    # Stream text not yet sent, and when the last chunk was.
    held: str = ""
    held_tokens: int = 0
    sent_at: float = -math.inf

    def heard(self, emission: Emission, now: float) -> None:
        self.tokens += emission.tokens
        self.logprobs += emission.logprobs
        self.guessed += emission.guessed
        self.right += emission.right
        if self.first_token_at is None and emission.tokens:
            self.first_token_at = now
        if emission.text:
            self.held += emission.text
            self.held_tokens += emission.tokens

    def chunk(self, now: float) -> Text:
        """The next chunk of its stream."""
        told = tuple(self.logprobs[self.logprobs_sent :])
        text = Text(self.prompt, self.chunks, self.held, self.held_tokens, told)
        self.held, self.held_tokens, self.sent_at = "", 0, now
        self.logprobs_sent = len(self.logprobs)
        self.chunks += 1
        return text

    def answer(self, last: Emission, finish_reason: str) -> Answer:
        return Answer(
            last.final_text,
            finish_reason,
            last.prompt_tokens,
            last.completion_tokens,
            last.tool_calls,
            tuple(self.logprobs),
            self.guessed,
            self.right,
            last.cached_tokens,
            last.prompt_logprobs,
        )

    def spent(self, now: float, copy_s: float) -> Spent:
        first = self.first_token_at if self.first_token_at is not None else now
        return Spent(
            queue_s=max(0.0, self.started_at - self.prompt.taken_at - self.load_s),
            load_s=self.load_s,
            prefill_s=first - self.started_at,
            decode_s=now - first,
            time_to_first_token_s=first - self.prompt.submitted_at if self.first_token_at is not None else 0.0,
            total_s=now - self.prompt.submitted_at,
            found_in=self.found_in,
            bytes_copied=self.copied.bytes_to_copy if self.copied else 0,
            copy_s=copy_s if self.copied else 0.0,
            modelled_copy_s=self.copied.modelled_copy_s if self.copied else 0.0,
        )


def never_started(prompt: Prompt, error: CoEError, now: float) -> Finish:
    """Ends a prompt that never ran."""
    return Finish(prompt, error, Spent(queue_s=now - prompt.taken_at, total_s=now - prompt.submitted_at))


def cancelled(prompt: Prompt) -> Cancelled:
    return Cancelled("the prompt was cancelled", request_id=prompt.request_id)


def expired(prompt: Prompt) -> DeadlineExceeded:
    return DeadlineExceeded("the prompt's deadline passed before its answer was complete", request_id=prompt.request_id)


class Batch:
    """`grant` is None while the lease is pending. `leaving`: sequences that the runner has yet to drop. `chunk_s`: the
    minimum number of seconds between chunks of a stream.
    """

    def __init__(self, expert_id: str, asked_at: float, chunk_s: float = 0.0) -> None:
        self.expert_id = expert_id
        self._chunk_s = chunk_s
        self.live: dict[str, Sequence] = {}
        self.leaving: list[str] = []
        self.grant: Grant | None = None
        # Prompts that the runner had no room for: they join once a sequence has ended.
        self.postponed: list[Prompt] = []
        self._ended_since_postponed = False
        # Whether a step succeeded since the lease was granted.
        self.proven = False
        # Seconds that copying the weights took, once the copy has ended.
        self.copy_s = 0.0
        # Another worker is waiting for the room that this expert occupies: the batch admits no more prompts.
        self.recalled = False
        # The expert was reimported; prompts that have arrived since must be answered by the new bundle.
        self.outdated = False
        # Prompts that have ended in this batch.
        self.served = 0
        # Failed steps since the last one that succeeded.
        self.failures = 0
        self._asked_at = asked_at
        self.granted_at = asked_at
        self._uncharged: Grant | None = None

    @property
    def empty(self) -> bool:
        """No prompt is left in it."""
        return not (self.live or self.postponed)

    @property
    def prompts(self) -> list[Prompt]:
        """Its prompts that have not ended."""
        return [*(sequence.prompt for sequence in self.live.values()), *self.postponed]

    def granted(self, grant: Grant, now: float) -> None:
        self.grant = self._uncharged = grant
        self.proven = self.recalled = self.outdated = False
        self.granted_at = now

    def lost(self, now: float) -> None:
        self.grant = None
        self._asked_at = now

    def join(self, prompt: Prompt, now: float) -> list[Effect]:
        """Returns a Loading effect if the prompt had to wait for weights."""
        assert self.grant is not None
        waited = prompt.taken_at <= self.granted_at
        sequence = Sequence(
            prompt,
            started_at=now,
            load_s=self.granted_at - max(self._asked_at, prompt.taken_at) if waited else 0.0,
            found_in=self.grant.found_in if waited else "hbm",
            copied=self._uncharged,
            chunks=prompt.chunks,
        )
        self.live[prompt.key] = sequence
        self._uncharged = None
        if sequence.found_in == "hbm":
            return []
        sequence.chunks += 1
        return [Loading(prompt, prompt.chunks, sequence.found_in)]

    def on_emissions(self, emissions: Iterable[Emission], now: float) -> list[Effect]:
        effects: list[Effect] = []
        for emission in emissions:
            sequence = self.live.get(emission.request_id)
            if sequence is None:
                continue  # ended while the step ran: cancelled, say
            if emission.error is not None:
                effects += self.abandon(emission.request_id, emission.error, now)
                continue
            sequence.heard(emission, now)
            last = emission.finish_reason is not None
            # An answer that is already complete needs no stream: its completion follows at once.
            if sequence.held and (sequence.chunks if last else now - sequence.sent_at >= self._chunk_s):
                effects.append(sequence.chunk(now))
            if emission.finish_reason is not None:
                answer = sequence.answer(emission, emission.finish_reason)
                effects.append(self._end(emission.request_id, answer, now))
        return effects

    def refuse(self, key: str, error: CoEError, now: float) -> Finish:
        """Ends a sequence that the runner does not hold."""
        return self._end(key, error, now)

    def postpone(self, key: str) -> None:
        """Sets aside a sequence that the runner has no room for."""
        sequence = self.live.pop(key)
        self.postponed.append(replace(sequence.prompt, chunks=sequence.chunks))
        self._ended_since_postponed = False

    def take_postponed(self) -> list[Prompt]:
        """The postponed prompts, if there may be room for them now."""
        if self.live and not self._ended_since_postponed:
            return []
        postponed, self.postponed = self.postponed, []
        return postponed

    def abort(self, key: str, error: CoEError, now: float) -> list[Effect]:
        """Ends a sequence; the runner must drop it before the next step."""
        self.leaving.append(key)
        return self.abandon(key, error, now)

    def abandon(self, key: str, error: CoEError, now: float) -> list[Effect]:
        """Ends a sequence with an error, after sending the stream text that was still held."""
        sequence = self.live[key]
        rest: list[Effect] = [sequence.chunk(now)] if sequence.held else []
        return [*rest, self._end(key, error, now)]

    def forget(self, key: str) -> None:
        """Drops a sequence without a terminal event: another worker answers it."""
        self.leaving.append(key)
        del self.live[key]
        self._ended_since_postponed = True

    def fail(self, error: CoEError, now: float) -> list[Effect]:
        """Ends every sequence with the error; their runner is gone."""
        self.leaving.clear()
        postponed, self.postponed = self.postponed, []
        ends = [effect for key in list(self.live) for effect in self.abandon(key, error, now)]
        return ends + [never_started(prompt, error, now) for prompt in postponed]

    def _end(self, key: str, result: Answer | CoEError, now: float) -> Finish:
        sequence = self.live.pop(key)
        self.served += 1
        self._ended_since_postponed = True
        return Finish(sequence.prompt, result, sequence.spent(now, self.copy_s))
