"""Continuous batching within one expert."""

import threading
from collections.abc import Sequence as Seq
from itertools import accumulate, pairwise
from typing import Protocol

from coe.experts.config import ModelConfig
from coe.experts.conversation import Conversation
from coe.experts.kv_sharing import ExpertKv, KvOwner, Reservation
from coe.experts.sampling_params import SamplingParams
from coe.experts.sequence import Emission, Sequence, start
from coe.experts.step_plan import Chunk, Int64, plan_step, step_inputs
from coe.experts.step_result import StepResult
from coe.experts.tokenizer import ExpertTokenizer
from coe.experts.tool_calls import ToolUse
from coe.platform.errors import CapacityExceeded, ContextExceeded, InvalidPrompt, NumericalError


class StepSession(KvOwner, Protocol):
    """Computes steps for experts of one layout (coe.experts.layout_session)."""

    config: ModelConfig
    batch_invariant: bool

    def run(self, inputs: dict[str, Int64]) -> StepResult: ...


class Runner:
    """The live sequences of one expert.

    One thread calls `step`; other threads may call `add` and `cancel` meanwhile. A step that raises has no lasting
    effect: the next one computes the same tokens again.

    `guesses`: the most tokens that a step with a single sequence speculates on, in addition to its last one
    (coe.experts.lookup). Answers are the same with and without.
    """

    def __init__(
        self, session: StepSession, tokenizer: ExpertTokenizer, kv: ExpertKv, max_batch: int, guesses: int = 0
    ) -> None:
        self._session = session
        self._tokenizer = tokenizer
        self._kv = kv
        self._max_batch = max_batch
        self._guesses = guesses
        self._sequences: dict[str, Sequence] = {}
        self._reservations: dict[str, Reservation] = {}
        # Sequences of the step in progress, which must keep their KV until it ends.
        self._stepping: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    @property
    def live(self) -> int:
        """Sequences that are not finished."""
        return len(self._sequences)

    def add(self, request_id: str, conversation: Conversation, sampling: SamplingParams) -> None:
        """Adds a request to the batch, from the next step on.

        Raises InvalidPrompt, ContextExceeded (it can never fit), CapacityExceeded (it does not fit now).
        """
        ids = self._tokenizer.encode_prompt(conversation)
        self.add_tokens(request_id, ids, sampling, conversation.tools, conversation.past)

    def add_tokens(
        self,
        request_id: str,
        prompt: Seq[int],
        sampling: SamplingParams,
        tools: ToolUse | None = None,
        past: str = "",
    ) -> None:
        """Like `add`, for a prompt of token ids."""
        config = self._session.config
        if not prompt:
            raise InvalidPrompt("the prompt has no tokens")
        if (unknown := next((token for token in prompt if not 0 <= token < config.vocabulary), None)) is not None:
            raise InvalidPrompt(f"token id {unknown} is out of range: this expert has {config.vocabulary} token ids")
        # The last token of an answer is never fed back, so it needs no room in the cache.
        most = min(config.context_length, self._session.pool.most_tokens + 1)
        sampling = sampling.within(most, len(prompt))
        room = len(prompt) + sampling.max_tokens
        if room > config.context_length:
            raise ContextExceeded(
                f"{len(prompt)} prompt tokens and {sampling.max_tokens} new ones exceed the expert's context "
                f"of {config.context_length}",
                prompt_tokens=len(prompt),
                max_tokens=sampling.max_tokens,
                context_length=config.context_length,
            )
        sequence = start(request_id, prompt, sampling, self._tokenizer, config.vocabulary, tools)
        sequence.batch_invariant = sampling.seed is not None and not self._session.batch_invariant
        sequence.kv = kv = self._kv.apart(past, batch_invariant=sequence.batch_invariant)
        with self._lock:
            if request_id in self._sequences:
                raise InvalidPrompt(f"request {request_id} is already being generated")
            if len(self._sequences) >= self._max_batch:
                raise CapacityExceeded(f"the expert's batch of {self._max_batch} is full")
            # Prompt logprobs need the prompt's own computation: nothing is taken from the prefix cache.
            beginning = prompt if sequence.scores is None else ()
            reservation = kv.reserve(beginning, max(room - 1, len(prompt)))
            self._sequences[request_id] = sequence
            self._hold(sequence, reservation)

    def step(self, lease: int) -> list[Emission]:
        """Computes one step (prefill chunks and decode tokens) of the live sequences. The lease must be held until it
        returns.

        `lease` is the expert's coe.native.lease_handle. Raises LeaseLost when it is stale.
        """
        with self._lock:
            self._use_known_blocks()
            chunks = plan_step(list(self._sequences.values()), self._session.pool.block_tokens, self._guesses)
            if not chunks:
                return []
            self._stepping = frozenset(chunk.sequence.request_id for chunk in chunks)
        computed = False
        try:
            result = self._session.run(step_inputs(chunks, lease))
            computed = True
        finally:
            with self._lock:
                self._stepping = frozenset()
                emissions = self._absorb(chunks, result) if computed else []
                self._drop_cancelled()
        return emissions

    def cancel(self, request_id: str) -> None:
        """Drops a request and frees its KV, at once or at the end of the step that is computing it. Idempotent."""
        with self._lock:
            sequence = self._sequences.get(request_id)
            if sequence is None:
                return
            if request_id in self._stepping:
                sequence.cancelled = True
            else:
                self._drop(sequence)

    def close(self) -> None:
        """Cancels everything. Must not be called during a step."""
        with self._lock:
            for sequence in list(self._sequences.values()):
                self._drop(sequence)

    def _hold(self, sequence: Sequence, reservation: Reservation) -> None:
        known = len(reservation.path) * self._session.pool.block_tokens
        sequence.hold(reservation.blocks, computed=max(known, sequence.computed))
        self._reservations[sequence.request_id] = reservation

    def _use_known_blocks(self) -> None:
        """Lets prompts without a computed token of their own use what others with the same prefix have computed."""
        for request_id, sequence in self._sequences.items():
            known = len(self._reservations[request_id].path) * self._session.pool.block_tokens
            if sequence.completion_tokens == 0 and sequence.computed == known and sequence.scores is None:
                self._use_known(sequence)

    def _use_known(self, sequence: Sequence) -> None:
        """Replaces leading blocks of a sequence by matching blocks that others have computed."""
        self._hold(sequence, sequence.kv.rematch(self._reservations[sequence.request_id], sequence.ids))

    def _keep(self, chunk: Chunk) -> bool:
        """Records a chunk as computed, and publishes a prompt's blocks for other sequences.

        False when the chunk started after blocks of another sequence that failed in this step: it must be recomputed.
        """
        sequence = chunk.sequence
        if chunk.first > sequence.computed:
            self._use_known(sequence)
            if sequence.computed < chunk.first:
                return False
        sequence.computed = max(sequence.computed, chunk.end)
        if sequence.completion_tokens == 0:
            reservation = self._reservations[sequence.request_id]
            published = sequence.kv.publish(reservation, sequence.ids[: sequence.computed])
            self._reservations[sequence.request_id] = published
        return True

    def _absorb(self, chunks: Seq[Chunk], result: StepResult) -> list[Emission]:
        bad, likeliest = set(result.no_numbers()), result.likeliest.tolist()
        ends = list(accumulate((chunk.rows for chunk in chunks), initial=0))
        spans = [(chunk, range(*span)) for chunk, span in zip(chunks, pairwise(ends), strict=True)]
        failed = [chunk.sequence for chunk, rows in spans if not bad.isdisjoint(rows[: chunk.scored + 1])]
        emissions = [emission for sequence in failed if (emission := self._fail(sequence)) is not None]
        for chunk, rows in spans:
            sequence = chunk.sequence
            if sequence in failed or not self._keep(chunk) or not rows or sequence.cancelled:
                continue
            scored, drawn = rows[: chunk.scored], rows[chunk.scored :]
            if sequence.scores is not None and result.logits is not None:
                sequence.scores.grow(result.logits[scored.start : scored.stop])
            if not drawn:
                continue
            end = next((row for row in drawn if row in bad), drawn.stop)
            logits = None if result.logits is None else result.logits[drawn.start : end]
            emission = sequence.accept(logits, likeliest[drawn.start : end], chunk.guesses[: end - drawn.start - 1])
            emissions.append(emission)
            if emission.finish_reason is not None:
                self._drop(sequence)
        return emissions

    def _fail(self, sequence: Sequence) -> Emission | None:
        """Ends a sequence whose logits are not finite, and discards the KV blocks that produced them.

        None if it was cancelled meanwhile.
        """
        del self._sequences[sequence.request_id]
        sequence.kv.discard(self._reservations.pop(sequence.request_id))
        if sequence.cancelled:
            return None
        return sequence.fail(NumericalError("the expert computed infinite or NaN logits for this prompt"))

    def _drop_cancelled(self) -> None:
        for sequence in [sequence for sequence in self._sequences.values() if sequence.cancelled]:
            self._drop(sequence)

    def _drop(self, sequence: Sequence) -> None:
        del self._sequences[sequence.request_id]
        reservation = self._reservations.pop(sequence.request_id)
        sequence.kv.release(reservation, sequence.ids[: sequence.computed])
