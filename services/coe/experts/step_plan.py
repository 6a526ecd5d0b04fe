"""Plans which tokens a step computes, and builds the graph's input arrays."""

from collections.abc import Iterator
from collections.abc import Sequence as Seq
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from coe.experts.prefill_budget import prefill_tokens, shares
from coe.experts.sequence import Sequence
from coe.native import batch_invariant

Int64 = npt.NDArray[np.int64]
# The most tokens that a step computes for prompts with logprobs: each adds a row of logits as wide as the vocabulary.
SCORED = 64
# With AVX-512, a step of four tokens takes 1.5 times as long as a step of one, and a step of eight three times as long.
GUESSES = 3


@dataclass(frozen=True)
class Chunk:
    """`count` tokens of a sequence, starting at `first`, and `guesses` for the tokens after the last one. For prompt
    logprobs, each of the first `scored` tokens yields the logits of its successor.

    `blocks`: its KV. For tokens before `first`, these may be blocks that a sequence with the same prefix computes in
    this step.
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
        """Whether the chunk includes the sequence's last token, so that the next one can be drawn."""
        return self.end == len(self.sequence.ids)

    @property
    def rows(self) -> int:
        """Rows of logits that the chunk produces."""
        return self.scored + (1 + len(self.guesses) if self.draws else 0)


def plan_step(sequences: Seq[Sequence], block_tokens: int, guesses: int = 0) -> list[Chunk]:
    """Every decoding sequence advances; prompts share the prefill budget. Without prompts, and with at most `guesses`
    tokens pending, guesses fill the step up to 1 + `guesses` tokens.
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
    """The first token of a prompt to compute in a step, and its KV blocks."""

    prompt: Sequence
    first: int
    blocks: tuple[int, ...]


def plan_prompts(prompts: Seq[Sequence], room: int, block_tokens: int) -> list[Chunk]:
    """Plans up to `room` tokens. A shared prefix is computed once: a prompt whose next block of `block_tokens` another
    prompt computes starts after that block, in the same step if there is room.
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
    """A chunk of `count` tokens. The prompt's last token has no successor in the prompt, so it is not scored."""
    prompt = start.prompt
    scored = 0 if prompt.scores is None else count - (start.first + count == len(prompt.ids))
    return Chunk(prompt, start.first, count, start.blocks, scored=scored)


def _wanted(starts: Seq[Start]) -> Iterator[int]:
    """How many tokens of each prompt may be computed; prompts with logprobs share SCORED."""
    room = SCORED
    for start in starts:
        pending = len(start.prompt.ids) - start.first
        count = pending if start.prompt.scores is None else min(pending, room)
        room -= 0 if start.prompt.scores is None else count
        yield count


def _follows(start: Start, other: Start, block_tokens: int) -> bool:
    """Whether `other` is about to compute the next block of `start`."""
    prompt, end = start.prompt, start.first + block_tokens
    if prompt.kv is not other.prompt.kv or prompt.scores is not None:
        return False
    if start.first % block_tokens or end >= len(prompt.ids) or other.first >= end:
        return False
    return prompt.ids[:end] == other.prompt.ids[:end]


def _behind(start: Start, chunks: Seq[Chunk], block_tokens: int) -> Start:
    """`start`, moved after the longest prefix of whole blocks that it shares with a chunk. At least the last token is
    left to compute.

    Chunks of one token are not shared: a step of such chunks alone attends to each as soon as it is computed
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
    """The graph's inputs except for the KV cache. Outputs have `Chunk.rows` rows for each chunk, in order.

    All rows are logits as soon as one sequence needs them: running both heads would read the output matrix twice.
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
