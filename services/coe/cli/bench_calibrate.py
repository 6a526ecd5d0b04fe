"""`coe bench calibrate`: this machine as the simulator sees it, measured with the packaged expert."""

import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from coe.cli.bench_tiers import replicas
from coe.cli.console import out, print_json
from coe.experts.catalogue import Catalogue
from coe.experts.engine import Engine
from coe.experts.runner import Runner
from coe.experts.sampling_params import SamplingParams
from coe.native import HbmArena, WeightsFile, lease_handle
from coe.platform.errors import TierLoadError
from coe.simulation.hardware import HOST, Hardware

BATCHES = (1, 2, 4, 8, 16, 32)
STEPS = 12


def run(threads: int, as_json: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as folder:
        (expert,) = replicas(Path(folder), 1)
        bundle = Catalogue(Path(folder) / "experts").get(expert)
        with _resident(bundle.weights_path, bundle.weights_bytes) as (lease, bandwidth):
            engine = Engine(threads=threads, kv_bytes=512 << 20, max_batch=max(BATCHES))
            runner = engine.runner(bundle)
            _burst(runner, lease, 1)
            bursts = [_burst(runner, lease, size) for size in BATCHES]
            runner.close()
    machine = fitted(bursts, bandwidth)
    if as_json:
        print_json({"bench": "calibrate", "expert_bytes": bundle.weights_bytes, "hardware": asdict(machine)})
    else:
        out.print(
            f"step {machine.step_s * 1e3:.1f} ms + {machine.sequence_s * 1e3:.2f} ms a sequence, "
            f"prefill {machine.prefill_s * 1e3:.1f} ms a prompt, link {machine.link / 1e9:.2f} GB/s"
        )


def fitted(bursts: list[tuple[int, float, float]], link: float) -> Hardware:
    """`bursts`: (sequences, seconds of their prefill, seconds of a decode step). Least squares over the sizes."""
    sizes = np.array([size for size, _, _ in bursts], dtype=float)
    steps = np.array([step for _, _, step in bursts])
    sequence_s, step_s = np.polyfit(sizes, steps, 1)
    prefill_s = np.sum(sizes * [prefill for _, prefill, _ in bursts]) / np.sum(sizes**2)
    return replace(
        HOST,
        link=link,
        step_s=max(float(step_s), 1e-6),
        sequence_s=max(float(sequence_s), 0.0),
        prefill_s=float(prefill_s),
    )


def _burst(runner: Runner, lease: int, size: int) -> tuple[int, float, float]:
    """(sequences, seconds until all have a token, median seconds of a step of all)."""
    for index in range(size):
        text = f"Tell me something about bridges, number {index}."
        runner.add(f"{size}-{index}", None, text, SamplingParams(max_tokens=STEPS + 4))
    begun: set[str] = set()
    began = time.perf_counter()
    while len(begun) < size:
        begun |= {emission.request_id for emission in runner.step(lease) if emission.tokens}
    prefill_s = time.perf_counter() - began
    steps = []
    while runner.live:
        whole, began = runner.live == size, time.perf_counter()
        runner.step(lease)
        if whole:
            steps.append(time.perf_counter() - began)
    return size, prefill_s, float(np.median(steps))


@contextmanager
def _resident(weights: Path, nbytes: int) -> Iterator[tuple[int, float]]:
    """(lease handle, bytes a second of the best of five copies)."""
    with (
        HbmArena.create(f"coe-calibrate-{time.time_ns()}", nbytes + (2 << 20), 2) as arena,
        WeightsFile.open(weights) as file,
    ):
        file.lock()
        best = float("inf")
        for attempt in range(5):
            if attempt:
                arena.free(0)
            began = time.perf_counter()
            load = arena.load(0, 0, file, verify=False)
            if not load.wait(60.0) or load.failure is not None:
                raise TierLoadError(f"the copy failed: {load.error}")
            best = min(best, time.perf_counter() - began)
        arena.bind()
        yield lease_handle(0, load.generation), nbytes / best
        arena.unlink()
