"""The subject of the benchmarks: one expert's graph, run without the engine's sampler."""

import decimal
import heapq
from dataclasses import dataclass

import numpy as np

from coe.bench.clock import timed
from coe.experts.activation_bits import ActivationBits
from coe.experts.bundle import Bundle
from coe.experts.graph import KV_BLOCK_TOKENS
from coe.experts.kv_blocks import KvBudget
from coe.experts.kv_format import KvFormat
from coe.experts.layout_session import LayoutSession
from coe.experts.step_plan import Int64
from coe.experts.tokenizer import ExpertTokenizer

KV_BYTES = 1 << 30
KV_FORMAT: KvFormat = "f16"  # like the peers
# Prose that is present on every machine. It has to be real text: how much of the output matrix a greedy step reads
# depends on how certain the model is of the next token.
TEXT = f"{heapq.__about__}\n{decimal.__doc__}"
# The sequences of a batch start this far apart in the text.
APART_TOKENS = 61


@dataclass(frozen=True)
class Shape:
    """A step of `batch` sequences, each with `tokens` new tokens after `depth` cached ones."""

    batch: int
    tokens: int
    depth: int


class GraphSubject:
    """Runs greedy steps of any shape."""

    def __init__(self, bundle: Bundle, activation_bits: ActivationBits = 16) -> None:
        self.session = LayoutSession(bundle, KvBudget(KV_BYTES), KV_FORMAT, activation_bits=activation_bits)
        tokenizer = ExpertTokenizer.of(bundle)
        self._text = np.array(tokenizer.encode(TEXT), np.int64)
        self._begins = bundle.manifest.tokenizer.bos_id if bundle.manifest.tokenizer.add_bos else None

    def inputs(self, shape: Shape, lease: int) -> dict[str, Int64]:
        blocks = -(-(shape.depth + shape.tokens) // KV_BLOCK_TOKENS)
        return {
            "expert_slot": np.array([lease], np.int64),
            "token_ids": self._tokens(shape).reshape(-1),
            "positions": np.tile(np.arange(shape.depth, shape.depth + shape.tokens), shape.batch),
            "sequence_ids": np.repeat(np.arange(shape.batch), shape.tokens),
            "block_table": np.arange(shape.batch * blocks).reshape(shape.batch, blocks),
            "logit_rows": np.array([], np.int64),
            "greedy_rows": np.arange(shape.batch) * shape.tokens + shape.tokens - 1,
        }

    def prefill(self, shape: Shape, lease: int) -> float:
        """Returns the seconds of one step."""
        inputs = self.inputs(shape, lease)
        return timed(lambda: self.session.run(inputs))

    def decode(self, batch: int, depth: int, steps: int, lease: int) -> float:
        """Returns the seconds of `steps` greedy steps, each one token deeper, after caching `depth` tokens of text."""
        inputs = [self.inputs(Shape(batch, 1, depth + step), lease) for step in range(steps)]
        self.cache(batch, depth, lease)

        def generate() -> None:
            tokens = inputs[0]["token_ids"]
            for one in inputs:
                tokens = self.session.run(one | {"token_ids": tokens}).likeliest

        return timed(generate)

    def cache(self, batch: int, depth: int, lease: int) -> None:
        """Caches the first `depth` tokens of each sequence."""
        if depth > 0:
            self.session.run(self.inputs(Shape(batch, depth, 0), lease))

    def _tokens(self, shape: Shape) -> Int64:
        """The next tokens of each sequence, [batch, tokens]. A decode without a past starts without the BOS token."""
        begins = [] if self._begins is None or (shape.depth, shape.tokens) == (0, 1) else [self._begins]
        end = shape.depth + shape.tokens
        rows = [np.concatenate([begins, np.roll(self._text, -APART_TOKENS * i)]) for i in range(shape.batch)]
        return np.array([np.resize(row, end)[shape.depth :] for row in rows], np.int64)
