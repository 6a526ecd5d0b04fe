"""Hosts one expert in this process, for `coe generate`, tests and benchmarks. Services lease from a manager."""

import os
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from coe import native
from coe.experts.bundle import Bundle
from coe.experts.engine import Engine
from coe.experts.runner import Runner
from coe.platform.errors import TierLoadError

LOAD_TIMEOUT_S = 120.0
KV_BYTES = 1 << 30
PAGE = 1 << 21


@dataclass
class Hosted:
    """An arena with this one expert in slot 0, its lease, and a runner."""

    arena: native.HbmArena
    weights: native.WeightsFile
    loading: native.Load
    engine: Engine
    runner: Runner
    lease: int

    @classmethod
    def load(
        cls, bundle: Bundle, *, threads: int, kv_bytes: int = KV_BYTES, max_batch: int = 64, guesses: int = 0
    ) -> Self:
        """Returns before the copy is complete: the ops wait for the bytes they need. Raises TierLoadError."""
        engine = Engine(threads=threads, kv_bytes=kv_bytes, max_batch=max_batch, guesses=guesses)
        runner = engine.runner(bundle)
        capacity = -(-bundle.weights_bytes // PAGE) * PAGE
        arena = native.HbmArena.create(f"/coe-single-{os.getpid()}", capacity, slots=1)
        weights = native.WeightsFile.open(bundle.weights_path, bundle.manifest.checksums, bundle.manifest.chunk_bytes)
        arena.bind()
        load = arena.load(0, 0, weights, threads=threads)
        lease = native.lease_handle(0, load.generation)
        return cls(arena, weights, load, engine, runner, lease)

    def wait_loaded(self) -> None:
        """Waits until the copy is complete. Raises TierLoadError."""
        if not self.loading.wait(LOAD_TIMEOUT_S) or self.loading.error:
            raise TierLoadError(f"the weights could not be loaded: {self.loading.error or 'timed out'}")

    def close(self) -> None:
        self.runner.close()
        self.loading.cancel()
        self.loading.wait(LOAD_TIMEOUT_S)
        self.weights.close()
        self.arena.close()
        self.arena.unlink()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
