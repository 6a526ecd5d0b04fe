"""Validates the simulator against the real system by running the same traces on both, on this machine."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from coe.bench.calibration import calibrate
from coe.bench.meter import Span, pitches
from coe.bench.node import Answered, Setting, serve
from coe.bench.questions import asked, unlike
from coe.bench.samples import Samples, fitted
from coe.scheduling import make_policy
from coe.simulation import node as simulated
from coe.simulation.hardware import with_budget
from coe.simulation.measured import Curve, at
from coe.simulation.trace import Trace, make_trace

# Share of the rate that the node sustains when all prompts are queued. Paced prompts rarely share a batch: at 0.7 the
# node is busy 90 % of the time, and a machine 10 % slower lengthens p95 by 33 % to 67 %. At 0.4 it is busy half the
# time.
LOAD = 0.4
# The machine is steady if the step times of slow seconds stay below this ratio to those of fast ones, and likewise for
# one calibration to the other. If it is not, the run is repeated, for up to TRIES runs.
STEADY = 1.2
TRIES = 3
MANY_STEPS = 10


@dataclass(frozen=True, slots=True)
class Agreement:
    """`figure`: prompts_s (all queued at the start) or p95_s (from arrival to the end of the answer, paced).

    `slower`: how many times longer the run's decode steps took than calibrated for as many sequences; the simulator is
    slowed by it. `unsteady`: how many times slower the machine was in slow seconds of the run, or in the slower
    calibration, than in the fast ones. `tries`: runs made.
    """

    trace: str
    figure: str
    real: float
    simulated: float
    slower: float
    unsteady: float
    tries: int

    @property
    def error(self) -> float:
        return self.simulated / self.real - 1


async def validate(
    setting: Setting,
    experts: Sequence[str],
    traces: Sequence[str],
    *,
    room: int,
    prompts: int,
    policy: str,
    seed: int,
    progress: Callable[[str, int], None],
) -> AsyncIterator[Agreement]:
    """Yields two figures per trace. The machine is calibrated before and after each run, as its speed varies.

    The simulator is given the length of each prompt and answer, because it does not predict when an expert stops. Nor
    does it predict how fast a shared machine happens to be, so the decode steps of the run set its speed.
    """
    said = asked(setting.hosted.bundle(experts[0]), prompts, unlike)
    both = _Both(setting, experts, room, policy)
    for kind in traces:
        drawn = make_trace(kind, prompts, len(experts), seed=seed)
        trace = replace(drawn.of(experts), prompt_tokens=said.lengths, shared_tokens=said.shared)
        show = partial(progress, kind)
        both_ways = await both.serve(trace.paced(0), show)
        yield both_ways.agreement(kind, "prompts_s", lambda served: served.prompts_s)
        both_ways = await both.serve(trace.paced(LOAD * both_ways.real.prompts_s), show)
        yield both_ways.agreement(kind, "p95_s", lambda served: float(np.percentile(served.latencies, 95)))


@dataclass(frozen=True, slots=True)
class _BothWays:
    real: Answered
    again: simulated.Served
    slower: float
    unsteady: float
    tries: int = 1

    def agreement(self, kind: str, figure: str, of: Callable[[Answered | simulated.Served], float]) -> Agreement:
        return Agreement(kind, figure, of(self.real), of(self.again), self.slower, self.unsteady, self.tries)


@dataclass
class _Both:
    setting: Setting
    experts: Sequence[str]
    room: int
    policy: str
    before: Samples | None = None

    async def serve(self, trace: Trace, progress: Callable[[int], None]) -> _BothWays:
        """Runs the trace up to TRIES times and returns the steadiest run."""
        runs: list[_BothWays] = []
        while len(runs) < TRIES and not (runs and runs[-1].unsteady < STEADY):
            runs.append(await self._serve(trace, progress))
        return replace(min(runs, key=lambda run: run.unsteady), tries=len(runs))

    async def _serve(self, trace: Trace, progress: Callable[[int], None]) -> _BothWays:
        largest = max(Counter(trace.experts).values())
        before = self.before or await calibrate(self.setting, self.experts, largest)
        real = await serve(self.setting, trace, self.policy, link=0.0, progress=progress, ask=unlike)
        self.before = after = await calibrate(self.setting, self.experts, largest)
        samples = Samples()
        samples.add(before)
        samples.add(after)
        slower, again = self._simulate(replace(trace, output_tokens=real.output_tokens), samples, real.meter.spans)
        lone = [float(np.median(one.lone)) for one in (before, after)]
        return _BothWays(real, again, slower, max(max(lone) / min(lone), unsteadiness(real.meter.lone)))

    def _simulate(self, trace: Trace, samples: Samples, run: Sequence[Span]) -> tuple[float, simulated.Served]:
        nbytes = self.setting.hosted.weight_bytes(self.experts[0])
        machine = fitted(samples, nbytes)
        assert machine.measured is not None
        slower = slowness(run, machine.measured.decode)
        machine = replace(machine, measured=machine.measured.slower(slower))
        return slower, simulated.serve(
            trace,
            with_budget(machine, self.room, nbytes),
            make_policy(self.policy, max_wait=self.setting.max_wait_s),
            expert_bytes=nbytes,
            max_batch=self.setting.max_batch,
        )


def slowness(run: Sequence[Span], calibrated: Curve) -> float:
    """How many times longer the run's decode steps took than the curve says; 1 if there are too few.

    It includes the cost of concurrent copies, about 1 %. A step is capped at twice the median ratio.
    """
    steps = [(at(calibrated, span.sequences), seconds) for span, seconds in pitches(run)]
    if len(steps) < MANY_STEPS:
        return 1.0
    said, took = np.array(steps).T
    return float(np.minimum(took, 2 * np.median(took / said) * said).sum() / said.sum())


def unsteadiness(lone: Sequence[Span]) -> float:
    """90th over 10th percentile of the per-second median time of `lone` steps; 1 if there are too few."""
    seconds: dict[int, list[float]] = defaultdict(list)
    for span in lone:
        seconds[int(span.began)].append(span.seconds)
    medians = [float(np.median(steps)) for steps in seconds.values() if len(steps) >= MANY_STEPS]
    if not medians:
        return 1.0
    slow, fast = np.percentile(medians, (90, 10))
    return float(slow / fast)
