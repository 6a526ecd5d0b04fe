"""The simulator against the real system: the same traces both ways, on this machine."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from coe.bench.calibration import calibrate
from coe.bench.node import Answered, Setting, serve
from coe.scheduling import make_policy
from coe.simulation import node as simulated
from coe.simulation.hardware import Hardware, with_budget
from coe.simulation.trace import Trace, make_trace

TRACES = ("zipf", "bursty", "drift", "multi-turn", "tenants")
# Of what the node sustains: beyond, waits depend on the smallest difference in speed.
LOAD = 0.7


@dataclass(frozen=True, slots=True)
class Agreement:
    """`figure`: prompts_s (all queued at the start) or p95_s (from arrival to the end of the answer, paced)."""

    trace: str
    figure: str
    real: float
    simulated: float

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
    """Two figures a trace. The machine is calibrated before each run: it may have become slower meanwhile.

    The simulator is told how long each answer was: when an expert stops is not its business.
    """
    for kind in traces:
        drawn = make_trace(kind, prompts, len(experts), seed=seed)
        called = {name: experts[index] for index, name in enumerate(sorted(set(drawn.experts)))}
        trace = replace(drawn, experts=[called[name] for name in drawn.experts])
        both = _Both(setting, experts[0], room, policy, partial(progress, kind))
        real, again = await both.serve(trace.paced(0))
        yield Agreement(kind, "prompts_s", real.prompts_s, again.prompts_s)
        real, again = await both.serve(trace.paced(LOAD * real.prompts_s))
        yield Agreement(kind, "p95_s", _p95(real.latencies), _p95(again.latencies))


@dataclass(frozen=True, slots=True)
class _Both:
    setting: Setting
    expert: str
    room: int
    policy: str
    progress: Callable[[int], None]

    async def serve(self, trace: Trace) -> tuple[Answered, simulated.Served]:
        setting = self.setting
        machine = calibrate(setting.engine, setting.hosted.bundle(self.expert), setting.max_batch)
        real = await serve(setting, trace, self.policy, link=0.0, progress=self.progress)
        return real, self._simulate(replace(trace, output_tokens=real.output_tokens), machine)

    def _simulate(self, trace: Trace, machine: Hardware) -> simulated.Served:
        nbytes = self.setting.hosted.weight_bytes(self.expert)
        return simulated.serve(
            trace,
            with_budget(machine, self.room, nbytes),
            make_policy(self.policy, max_wait=self.setting.max_wait_s),
            expert_bytes=nbytes,
            max_batch=self.setting.max_batch,
        )


def _p95(latencies: Sequence[float]) -> float:
    return float(np.percentile(latencies, 95))
