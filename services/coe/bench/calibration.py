"""This machine as the simulator sees it, measured with one resident expert."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from coe.bench.node import question
from coe.experts.bundle import Bundle
from coe.experts.engine import Engine
from coe.experts.sampling_params import SamplingParams
from coe.native import HbmArena, WeightsFile, lease_handle
from coe.platform.errors import TierLoadError
from coe.simulation.hardware import HOST, Hardware

BATCHES = (1, 2, 4, 8, 16, 32, 64)
STEPS = 12


@dataclass(frozen=True, slots=True)
class Burst:
    """`sequences` that started together. Seconds: until all had a token; the median decode step."""

    sequences: int
    prefill_s: float
    step_s: float


def calibrate(engine: Engine, bundle: Bundle, max_batch: int) -> Hardware:
    """With up to `max_batch` sequences, as the engine allows. Takes a few seconds.

    Nothing else may use the engine meanwhile: its steps are bound to an arena of their own.
    """
    with _resident(bundle) as (lease, bandwidth):
        _burst(engine, bundle, lease, 1)
        bursts = [_burst(engine, bundle, lease, size) for size in BATCHES if size <= max_batch]
    return fitted(bursts, bandwidth)


def fitted(bursts: Sequence[Burst], link: float) -> Hardware:
    """The floor of a step is one sequence's; the line is fitted to relative errors of the larger batches."""
    floor = min(burst.step_s for burst in bursts)
    many = [burst for burst in bursts if burst.sequences > 1]
    sizes = np.array([burst.sequences for burst in many], dtype=float)
    steps = np.array([burst.step_s for burst in many])
    sequence_s, step_s = np.polyfit(sizes, steps, 1, w=1 / steps)
    # A prompt alone and prompts together: every burst counts alike. First tokens are drawn in the prefill's
    # last step, which the simulator counts among those of decode.
    prefill_s = np.mean([max(burst.prefill_s - burst.step_s, 0.0) / burst.sequences for burst in bursts])
    return replace(
        HOST,
        link=link,
        step_s=max(float(step_s), 0.0),
        sequence_s=max(float(sequence_s), 0.0),
        floor_s=float(floor),
        prefill_s=float(prefill_s),
    )


def _burst(engine: Engine, bundle: Bundle, lease: int, size: int) -> Burst:
    """Its prompts find nothing computed, as at an expert's first visit."""
    runner = engine.runner(bundle, past=f"burst at {time.time_ns()}")
    for index in range(size):
        runner.add(f"{size}-{index}", None, question(index), SamplingParams(max_tokens=STEPS + 4))
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
    return Burst(size, prefill_s, float(np.median(steps)))


@contextmanager
def _resident(bundle: Bundle) -> Iterator[tuple[int, float]]:
    """(lease handle, bytes a second of the best of five copies)."""
    nbytes = bundle.weights_bytes
    with (
        HbmArena.create(f"coe-calibrate-{time.time_ns()}", nbytes + (2 << 20), 2) as arena,
        WeightsFile.open(bundle.weights_path) as file,
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
