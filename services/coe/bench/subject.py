"""The runtime under measurement: one expert's graph, driven without the engine's tokenizer and sampler."""

from dataclasses import dataclass

import numpy as np

from coe.bench.clock import timed
from coe.experts.bundle import Bundle
from coe.experts.graph import KV_BLOCK_TOKENS
from coe.experts.kv_blocks import KvBudget
from coe.experts.kv_format import KvFormat
from coe.experts.layout_session import LayoutSession
from coe.experts.step_plan import Int64

KV_BYTES = 1 << 30
KV_FORMAT: KvFormat = "f16"  # as the peers keep theirs
FIRST_TOKEN = 100


@dataclass(frozen=True)
class Shape:
    """A step of `batch` sequences, each `tokens` new ones after `depth` that are cached."""

    batch: int
    tokens: int
    depth: int


class GraphSubject:
    """Runs steps of any shape under one lease. Cached tokens are what the cache holds: time doesn't depend on it."""

    def __init__(self, bundle: Bundle) -> None:
        self.session = LayoutSession(bundle, KvBudget(KV_BYTES), KV_FORMAT)
        self._vocabulary = bundle.manifest.config.vocabulary

    def inputs(self, shape: Shape, lease: int) -> dict[str, Int64]:
        count = shape.batch * shape.tokens
        blocks = -(-(shape.depth + shape.tokens) // KV_BLOCK_TOKENS)
        return {
            "expert_slot": np.array([lease], np.int64),
            "token_ids": (FIRST_TOKEN + np.arange(count, dtype=np.int64)) % self._vocabulary,
            "positions": np.tile(np.arange(shape.depth, shape.depth + shape.tokens), shape.batch),
            "sequence_ids": np.repeat(np.arange(shape.batch), shape.tokens),
            "block_table": np.arange(shape.batch * blocks).reshape(shape.batch, blocks),
            "logit_rows": np.arange(shape.batch) * shape.tokens + shape.tokens - 1,
        }

    def prefill(self, shape: Shape, lease: int) -> float:
        """Seconds of one step."""
        inputs = self.inputs(shape, lease)
        return timed(lambda: self.session.run(inputs))

    def decode(self, batch: int, depth: int, steps: int, lease: int) -> float:
        """Seconds of `steps` greedy steps, each one token deeper."""
        shapes = [self.inputs(Shape(batch, 1, depth + step), lease) for step in range(steps)]

        def generate() -> None:
            for inputs in shapes:
                self.session.run(inputs).argmax(axis=1)

        return timed(generate)
