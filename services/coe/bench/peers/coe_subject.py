"""This project's graph alone, on a bundle, with the native library that COE_NATIVE_LIBRARY names."""

from pathlib import Path

from coe.bench.subject import KV_FORMAT, GraphSubject, Shape
from coe.experts.bundle import Bundle
from coe.experts.single import Hosted
from coe.native import ops_library_path


class Subject:
    """Repeats the same step, with the same depth and tokens."""

    def __init__(self, path: str, threads: int, sequences: int) -> None:
        bundle = Bundle.open(Path(path))
        self._hosted = Hosted.load(bundle, threads=threads, kv_bytes=1 << 20)
        self._hosted.wait_loaded()
        # The benchmark may kill this process. Once unlinked, the arena's memory is freed with it.
        self._hosted.arena.unlink()
        self._graph = GraphSubject(bundle)
        self.version = str(ops_library_path())
        self.settings = f"KV {KV_FORMAT}"

    def prefill(self, prompt: int, batch: int) -> float:
        return self._graph.prefill(Shape(batch, prompt, 0), self._hosted.lease)

    def decode(self, depth: int, batch: int, steps: int) -> float:
        self._graph.cache(batch, depth, self._hosted.lease)
        return sum(self._graph.prefill(Shape(batch, 1, depth), self._hosted.lease) for _ in range(steps))
