"""Which tokens one step computes, and the arrays that tell the graph so."""

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coe.experts.prefill_budget import prefill_tokens, shares
from coe.experts.sequence import Sequence
from coe.native import batch_invariant

Int64 = npt.NDArray[np.int64]
# Of prompts whose tokens are told of, a step computes so many tokens together: each brings a row of logits, as wide as
# the vocabulary.
SCORED = 64
# Four tokens take half as long again as one, where AVX-512 multiplies; eight take three times as long.
GUESSES = 3


@dataclass(frozen=True)
class Chunk:
    """`count` tokens of a sequence, from the one at `first` on, and `guesses` at what comes behind its last one. Of a
    prompt, the first `scored` tell how likely those behind them are.

    `blocks`: its KV. What another computes in this step may be in it, of tokens before `first` that begin both.
    """

    sequence: Sequence
    first: int
    count: int
    blocks: tuple[int, ...]
    guesses: tuple[int, ...] = ()
    scored: int = 0

    @property
    def end(self) -> int:
        return self.first + self.count

    @property
    def draws(self) -> bool:
        """Whether its last token is among them, so that the next one can be drawn."""
        return self.end == len(self.sequence.ids)

    @property
    def rows(self) -> int:
        """Of logits."""
        return self.scored + (1 + len(self.guesses) if self.draws else 0)


def plan_step(sequences: Seq[Sequence], block_tokens: int, guesses: int = 0) -> list[Chunk]:
    """Every decoding sequence takes its step; prompts share what prefill is allowed. Where there are none, and hardly
    any sequences, as many `guesses` are made as make up for those that are missing.
    """
    decoding = [sequence for sequence in sequences if sequence.completion_tokens > 0]
    prompts = [sequence for sequence in sequences if sequence.completion_tokens == 0]
    room = 0 if prompts else 1 + guesses - sum(sequence.pending for sequence in decoding)
    chunks: list[Chunk] = []
    for index, sequence in enumerate(decoding):
        share = -(-room // (len(decoding) - index))
        guessed = sequence.guess(share) if share > 0 else ()
        chunks.append(Chunk(sequence, sequence.computed, sequence.pending, sequence.blocks, guessed))
        room -= len(guessed)
    return chunks + plan_prompts(prompts, prefill_tokens(len(decoding), len(prompts)), block_tokens)


@dataclass(frozen=True)
class Start:
    """Where a prompt goes on in a step, and its KV."""

    prompt: Sequence
    first: int
    blocks: tuple[int, ...]


def plan_prompts(prompts: Seq[Sequence], room: int, block_tokens: int) -> list[Chunk]:
    """Up to `room` tokens. Prompts that begin alike compute their beginning once: whose next block of `block_tokens`
    another one computes begins behind that, in the same step if there is room.
    """
    chunks: list[Chunk] = []
    waiting = [Start(prompt, prompt.computed, prompt.blocks) for prompt in prompts]
    while waiting and room > 0:
        going: list[Start] = []
        following: list[Start] = []
        for start in waiting:
            follows = any(_follows(start, other, block_tokens) for other in going)
            (following if follows else going).append(start)
        counts = shares(list(_wanted(going)), room)
        chunks += [_of_prompt(start, count) for start, count in zip(going, counts, strict=True) if count]
        room -= sum(counts)
        waiting = [_behind(start, chunks, block_tokens) for start in following]
    return chunks


def _of_prompt(start: Start, count: int) -> Chunk:
    """Of the prompt's last token nothing is known yet that it could tell of."""
    prompt = start.prompt
    scored = 0 if prompt.scores is None else count - (start.first + count == len(prompt.ids))
    return Chunk(prompt, start.first, count, start.blocks, scored=scored)


def _wanted(starts: Seq[Start]) -> Iterator[int]:
    """Tokens of each that may be computed together. Who is told of them begins behind nobody."""
    room = SCORED
    for start in starts:
        pending = len(start.prompt.ids) - start.first
        count = pending if start.prompt.scores is None else min(pending, room)
        room -= 0 if start.prompt.scores is None else count
        yield count


def _follows(start: Start, other: Start, block_tokens: int) -> bool:
    """Whether the next block of `start` is one that `other` has yet to compute."""
    prompt, end = start.prompt, start.first + block_tokens
    if prompt.kv is not other.prompt.kv or prompt.scores is not None:
        return False
    if start.first % block_tokens or end >= len(prompt.ids) or other.first >= end:
        return False
    return prompt.ids[:end] == other.prompt.ids[:end]


def _behind(start: Start, chunks: Seq[Chunk], block_tokens: int) -> Start:
    """Behind the most blocks that a chunk begins with alike. At least the last token is left to compute.

    A chunk of one token lends nothing: a step of such chunks alone attends to each as soon as it is computed
    (kernels/attention.cc).
    """
    ids, kv = start.prompt.ids, start.prompt.kv
    for chunk in chunks:
        theirs = chunk.sequence.ids
        if chunk.sequence.kv is not kv or chunk.count == 1 or ids[: start.first] != theirs[: start.first]:
            continue
        end, last = start.first, min(chunk.end, len(ids) - 1) - block_tokens
        while end <= last and ids[end : end + block_tokens] == theirs[end : end + block_tokens]:
            end += block_tokens
        if end > start.first:
            known = end // block_tokens
            start = Start(start.prompt, end, (*chunk.blocks[:known], *start.prompt.blocks[known:]))
    return start


def step_inputs(chunks: Seq[Chunk], lease: int) -> dict[str, Int64]:
    """The graph's inputs but for the KV cache. Rows come out for each drawing chunk, in their order.

    The rows are of logits as soon as one of their sequences needs those: both heads together would read more.
    """
    ids: list[int] = []
    positions: list[int] = []
    owners: list[int] = []
    rows: list[int] = []
    strict = any(chunk.sequence.batch_invariant for chunk in chunks)
    greedy = all(chunk.sequence.sampler.takes_likeliest for chunk in chunks if chunk.rows)
    widest = max(len(chunk.blocks) for chunk in chunks)
    table = np.full((len(chunks), widest), -1, np.int64)
    for index, chunk in enumerate(chunks):
        ids += chunk.sequence.ids[chunk.first : chunk.end]
        ids += chunk.guesses
        positions += range(chunk.first, chunk.end + len(chunk.guesses))
        owners += [index] * (len(ids) - len(owners))
        table[index, : len(chunk.blocks)] = chunk.blocks
        rows += range(len(ids) - chunk.rows, len(ids))
    return {
        "expert_slot": np.array([batch_invariant(lease) if strict else lease], np.int64),
        "token_ids": np.array(ids, np.int64),
        "positions": np.array(positions, np.int64),
        "sequence_ids": np.array(owners, np.int64),
        "block_table": table,
        "logit_rows": np.array([] if greedy else rows, np.int64),
        "greedy_rows": np.array(rows if greedy else [], np.int64),
    }
