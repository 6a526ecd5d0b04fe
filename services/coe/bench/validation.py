"""The simulator against the real system: the same traces both ways, on this machine."""

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

# Of what the node sustains when all are queued. Paced prompts rarely share a batch: at 0.7 the node is busy nine tenths
# of the time, and a machine slower by a tenth makes p95 longer by a third to two thirds; here it is busy half the time.
LOAD = 0.4
# A machine is steady when by its steps a slow second is no slower than that to a fast one, and neither is a calibration
# to the one before. Else the run is made again, so often at most.
STEADY = 1.2
TRIES = 3
MANY_STEPS = 10


@dataclass(frozen=True, slots=True)
class Agreement:
    """`figure`: prompts_s (all queued at the start) or p95_s (from arrival to the end of the answer, paced).

    `slower`: how many times longer the decode steps of the run took than calibrations say of as many sequences; the
    simulator is told. `unsteady`: how much slower the machine was in a slow second of the run, or calibration, than
    in a fast; `tries`: runs made.
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
    """Two figures a trace. The machine is calibrated before and after each run: its speed changes meanwhile.

    The simulator is told how long each prompt and answer was: when an expert stops is not its business. Neither is how
    fast a shared machine is in this very minute: its decode steps in the run tell.
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
        """The steadiest of the runs."""
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
    """How many times longer its decode steps took than the curve says. 1 when there are too few to tell.

    Copies beside them are in it, a hundredth or so. One that took more than twice the ratio's median counts as that.
    """
    steps = [(at(calibrated, span.sequences), seconds) for span, seconds in pitches(run)]
    if len(steps) < MANY_STEPS:
        return 1.0
    said, took = np.array(steps).T
    return float(np.minimum(took, 2 * np.median(took / said) * said).sum() / said.sum())


def unsteadiness(lone: Sequence[Span]) -> float:
    """Steps of one sequence, by the second: the ninth decile to the first. 1 when there are too few."""
    seconds: dict[int, list[float]] = defaultdict(list)
    for span in lone:
        seconds[int(span.began)].append(span.seconds)
    medians = [float(np.median(steps)) for steps in seconds.values() if len(steps) >= MANY_STEPS]
    if not medians:
        return 1.0
    slow, fast = np.percentile(medians, (90, 10))
    return float(slow / fast)
