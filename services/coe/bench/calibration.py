"""Measures this machine for the simulator, under the conditions of real use.

It cycles through more experts than the caches hold, so that each visit reads its weights from memory. It makes copies
as the memory-tier manager does, while steps run. And it runs short traces through the real worker, for the time between
steps and for what a load costs them.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import numpy as np

from coe.bench.loads import loads
from coe.bench.node import Setting
from coe.bench.samples import BESIDE_TOKENS, Samples
from coe.bench.visits import visit
from coe.experts.catalogue import Catalogue
from coe.experts.engine import Engine
from coe.experts.runner import Runner
from coe.experts.sampling_params import SamplingParams
from coe.memory_tier_manager.extents import rounded
from coe.memory_tier_manager.native_arena import BundleLibrary, NativeArena, VerifiedOnce
from coe.native import HbmArena, lease_handle
from coe.platform.errors import TierLoadError

# (prompts, tokens of each) of the first step of each visit; the list is used twice.
PREFILLS = ((1, 24), (12, 24), (1, 8), (3, 32), (1, 24), (16, 32), (2, 24), (6, 24), (2, 32), (4, 32), (1, 24), (8, 32))
# How many experts HBM holds in the measurements without a worker: more than the caches hold.
ROOM = 8
# Sequences of each visit to the real worker.
VISITS = (1, 2, 1, 4, 1, 8, 2, 3, 1, 6, 16, 2, 12, 4)
LARGE_VISITS = (24, 48, 64)
EXPERTS = len(VISITS) + len(LARGE_VISITS)
COPY_TIMEOUT_S = 60.0
COPY_THREADS = 2


async def calibrate(setting: Setting, experts: Sequence[str], largest: int) -> Samples:
    """Measures with batches of up to `largest` sequences, at least 16. Takes some seconds and needs EXPERTS experts.

    No other engine may run in this process meanwhile, because steps are bound to a separate arena.
    """
    samples = Samples()
    with _rig(setting, experts[:EXPERTS]) as rig:
        rig.fill(samples)
        rig.prefills(samples)
        rig.copies(samples)
    visits = (*VISITS, *(size for size in LARGE_VISITS if size <= largest))
    await visit(setting, experts, visits, samples)
    await loads(setting, experts[:EXPERTS], ROOM, samples)
    return samples


@dataclass
class _Rig:
    """An engine with its own arena. `held`: the expert in each slot and its lease."""

    setting: Setting
    engine: Engine
    experts: Sequence[str]
    arena: NativeArena
    library: BundleLibrary
    slot_bytes: int
    sources: dict[str, VerifiedOnce] = field(default_factory=dict)
    held: dict[int, tuple[str, int]] = field(default_factory=dict)
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))

    def fill(self, samples: Samples) -> None:
        """Measures copies into unused HBM and the first steps that read it.

        The first slot is not counted, as its step is also the engine's first.
        """
        for slot in range(ROOM):
            copied_s = self._copy(slot, self.experts[slot])
            touched_s = self._first_step(slot, 1, BESIDE_TOKENS)
            if slot:
                samples.fresh.append(copied_s)
                samples.touched.append(touched_s)

    def prefills(self, samples: Samples) -> None:
        """Measures first steps of visits while nothing is copied."""
        for place, (prompts, tokens) in enumerate(2 * PREFILLS):
            samples.prefill[prompts * tokens].append(self._first_step(place % ROOM, prompts, tokens))

    def copies(self, samples: Samples) -> None:
        """Measures first and repeated copies during a visit, and the same visit without a copy."""
        coming = [(samples.first, expert) for expert in self.experts[ROOM:]]
        coming += [(samples.again, expert) for expert in self.experts[:ROOM]]
        with ThreadPoolExecutor(1) as pool:
            for place, (kind, expert) in enumerate(coming):
                with self._visit((place - 1) % ROOM, 1, BESIDE_TOKENS) as step:
                    # Started only when the visit is ready, to measure what the copy costs its steps.
                    copy = pool.submit(self._copy, place % ROOM, expert)
                    beside = [step()]
                    while not copy.done():
                        beside.append(step())
                with self._visit((place - 4) % ROOM, 1, BESIDE_TOKENS) as step:
                    alone = [step() for _ in beside]
                kind.append(copy.result())
                samples.beside.append((copy.result(), sum(beside) - sum(alone)))
                samples.prefill[BESIDE_TOKENS].append(alone[0])

    def _first_step(self, slot: int, prompts: int, tokens: int) -> float:
        with self._visit(slot, prompts, tokens) as step:
            return step()

    @contextmanager
    def _visit(self, slot: int, prompts: int, tokens: int) -> Iterator[Callable[[], float]]:
        """Yields a function that runs a step and returns its seconds: first the prefill, then decode steps."""
        with closing(self._runner(slot)) as runner:
            self._ask(runner, prompts, tokens)
            yield lambda: self._step(runner, slot)

    def _runner(self, slot: int) -> Runner:
        expert, _ = self.held[slot]
        return self.engine.runner(self.setting.hosted.bundle(expert), past=expert)

    def _ask(self, runner: Runner, prompts: int, tokens: int) -> None:
        """Adds random prompts, which share no prefix."""
        for number in range(prompts):
            prompt = self.rng.integers(1000, 10_000, tokens).tolist()
            runner.add_tokens(str(number), prompt, SamplingParams(max_tokens=200))

    def _step(self, runner: Runner, slot: int) -> float:
        began = time.perf_counter()
        runner.step(self.held[slot][1])
        return time.perf_counter() - began

    def _copy(self, slot: int, expert: str) -> float:
        """Copies as the manager does, and returns seconds. A first copy is also verified and read into DDR."""
        if self.held.pop(slot, None) is not None:
            self.arena.free(slot)
        began = time.perf_counter()
        known = expert in self.sources
        if not known:
            self.sources[expert] = self.library.open(expert)
        source = self.sources[expert]
        copy = self.arena.copy(slot, slot * self.slot_bytes, source)
        if not known:
            source.lock()
        if not copy.wait(COPY_TIMEOUT_S) or copy.failure is not None:
            raise TierLoadError(f"the copy failed: {copy.failure}")
        source.loaded()
        seconds = time.perf_counter() - began
        self.held[slot] = expert, lease_handle(slot, copy.generation)
        return seconds


@contextmanager
def _rig(setting: Setting, experts: Sequence[str]) -> Iterator[_Rig]:
    slot_bytes = rounded(setting.hosted.weight_bytes(experts[0]))
    name = f"coe-calibrate-{os.getpid()}"
    with closing(NativeArena(name, ROOM * slot_bytes, ROOM, threads=COPY_THREADS, bytes_per_second=0.0)) as arena:
        attached = HbmArena.attach(name)
        attached.bind()
        rig = _Rig(
            setting, setting.engine(), experts, arena, BundleLibrary(Catalogue(setting.home / "experts")), slot_bytes
        )
        try:
            yield rig
        finally:
            for source in rig.sources.values():
                source.close()
            attached.close()
