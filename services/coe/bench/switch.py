"""`coe bench switch`: how long it takes for an expert that is resident in DDR to run from HBM."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

from coe import native
from coe.bench.bandwidth import copy_buffers, copy_seconds
from coe.bench.clock import Subject, median_rounds, timed
from coe.bench.peer import Peer
from coe.bench.peer_models import PeerModels
from coe.bench.subject import KV_BYTES, KV_FORMAT, GraphSubject, Shape
from coe.experts.bundle import Bundle
from coe.experts.kv_blocks import KvBudget
from coe.experts.layout_session import LayoutSession
from coe.memory_tier_manager.extents import rounded
from coe.platform.errors import TierLoadError

PROMPT = Shape(1, 8, 0)
DEADLINE_S = 60.0
SESSION_BUILD, LLAMA_CPP_LOAD = "ort_genai", "llama_cpp"


class SwitchSubject:
    """A single slot that the expert is repeatedly copied into."""

    def __init__(self, bundle: Bundle, threads: int) -> None:
        self._threads = threads
        native.set_threads(threads)
        self.graph = GraphSubject(bundle)
        self.weights = native.WeightsFile.open(bundle.weights_path)
        self.weights.lock()
        self.budget = rounded(bundle.weights_bytes)
        self.arena = native.HbmArena.create(f"/coe-bench-{os.getpid()}", self.budget, slots=1)
        self.arena.bind()

    def load(self) -> native.Load:
        """Starts a copy. Checksums are not verified: in production that happens when an expert enters DDR."""
        if self.arena.slot(0).state is native.SlotState.RESIDENT:
            self.arena.free(0)
        return self.arena.load(0, 0, self.weights, verify=False, threads=self._threads)

    def copy(self) -> float:
        return timed(lambda: _finish(self.load()))

    def prefill(self) -> float:
        """Returns the seconds of the prompt's step on resident weights."""
        return self.graph.prefill(PROMPT, native.lease_handle(0, self.arena.slot(0).generation))

    def first_token(self) -> float:
        """Returns the seconds from the decision to switch to the first token, with copy and prefill overlapping."""

        def switch() -> None:
            load = self.load()
            self.graph.prefill(PROMPT, native.lease_handle(0, load.generation))
            _finish(load)

        return timed(switch)

    def close(self) -> None:
        self.arena.close()
        self.arena.unlink()
        self.weights.close()


def _finish(load: native.Load) -> None:
    if not load.wait(DEADLINE_S) or load.error:
        raise TierLoadError(f"the copy failed: {load.error or 'it took too long'}")


def run(bundle: Bundle, threads: int, rounds: int, peers: tuple[Path, PeerModels] | None) -> dict[str, object]:
    """Returns the figures as one object. `peers`: their interpreter, and the model in their formats."""
    with ExitStack() as stack:
        subject = SwitchSubject(bundle, threads)
        stack.callback(subject.close)
        target, source = copy_buffers(threads)
        expert = bundle.weights_bytes / source.nbytes
        subjects: dict[str, Subject] = {
            "memcpy": lambda: copy_seconds(target, source, threads) * expert,
            "copy": subject.copy,
            "prefill": subject.prefill,
            "first_token": subject.first_token,
            "layout_session": lambda: timed(lambda: LayoutSession(bundle, KvBudget(KV_BYTES), KV_FORMAT)),
        }
        running = []
        if peers:
            interpreter, models = peers
            loads = [model for model in models.models if model.column in (SESSION_BUILD, LLAMA_CPP_LOAD)]
            running = [stack.enter_context(Peer(model, interpreter, threads, 1)) for model in loads]
            subjects |= {peer.column: peer.load_seconds for peer in running}
        seconds = median_rounds(subjects, rounds).seconds
        return {
            "bench": "switch",
            **figures(seconds),
            "max_hbm_bytes": _shared_bytes(Path("/proc/self/status")),
            "hbm_budget_bytes": subject.budget,
            "milliseconds": {name: round(taken * 1e3, 2) for name, taken in seconds.items()},
            "versions": {peer.column: peer.version for peer in running},
        }


def figures(seconds: Mapping[str, float]) -> dict[str, float | None]:
    """Ratios of the medians of one run; None for a peer that was not measured."""
    copy = seconds["copy"]

    def speedup(peer: str) -> float | None:
        return round(seconds[peer] / copy, 2) if peer in seconds else None

    return {
        "copy_bandwidth_share": round(seconds["memcpy"] / copy, 3),
        "ttft_over_bound": round(seconds["first_token"] / max(copy, seconds["prefill"]), 3),
        "speedup_vs_session_build": speedup(SESSION_BUILD),
        "speedup_vs_llama_cpp_load": speedup(LLAMA_CPP_LOAD),
    }


def _shared_bytes(status: Path) -> int:
    """Shared memory resident in this process, as the kernel counts it."""
    line = next(line for line in status.read_text().splitlines() if line.startswith("RssShmem"))
    return int(line.split()[1]) * 1024
