"""`coe bench schedule`: compares the scheduling policies on real experts, over links of different speeds.

Each policy gets the same prompts on the same node (coe.bench.node): once all at the start, for throughput and switches,
and once at 0.9 of the rate that `samba-coe` sustained, for waits. `bound_prompts_s` is a rate that no schedule can beat
on this machine, whose speed is measured at the start of the run.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from coe.bench.bandwidth import read_seconds
from coe.bench.calibration import calibrate
from coe.bench.node import Answered, Setting, prepare, serve
from coe.bench.questions import alike, asked
from coe.bench.samples import fitted
from coe.bench.tiers import replicas
from coe.cli.asked import known
from coe.cli.console import err, out, print_json
from coe.cli.counting import counting
from coe.experts import activation_bits
from coe.experts.activation_bits import ActivationBits
from coe.scheduling import POLICIES
from coe.simulation.bound import shortest_s
from coe.simulation.hardware import Hardware
from coe.simulation.trace import KINDS, Trace, make_trace

EXPERTS, ROOM = 48, 8
LINKS = ("host", "sn40l", "nvme")
# An SN40L socket reads HBM nine times as fast as DDR: 1.8 TB/s against 200 GB/s (arXiv 2405.07518).
DDR_TO_HBM = 9
NVME_BYTES_PER_S = 1.0e9
READ_BYTES = 512 << 20
BASELINE = "samba-coe"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure. `rounds`: runs per policy with all prompts at once; policies alternate.

    `paced_prompts`: how many prompts of each trace are paced, to measure waits; 0: none.
    """

    prompts: int
    rounds: int
    paced_prompts: int
    links: Sequence[str]
    traces: Sequence[str]
    policies: Sequence[str]
    max_batch: int
    max_wait_s: float
    threads: int
    activation_bits: ActivationBits

    @property
    def answers(self) -> int:
        of_each = self.rounds * self.prompts + self.paced_prompts
        return len(self.links) * len(self.traces) * len(self.policies) * of_each


def read_bandwidth(threads: int) -> float:
    """Bytes per second that this machine reads from memory with as many threads as the engine, best of five."""
    data = np.ones(READ_BYTES, np.uint8)
    return data.nbytes / min(read_seconds(data, threads) for _ in range(5))


def link_speed(name: str, threads: int) -> float:
    """Bytes per second into HBM; 0: as fast as the machine copies."""
    match name:
        case "host":
            return 0.0
        case "sn40l":
            return read_bandwidth(threads) / DDR_TO_HBM
        case "nvme":
            return NVME_BYTES_PER_S
        case _:
            raise AssertionError(name)


async def run(plan: Plan, as_json: bool) -> None:
    policies = [BASELINE, *(name for name in plan.policies if name != BASELINE)]
    plan = replace(plan, policies=policies, paced_prompts=min(plan.paced_prompts, plan.prompts))
    known("link", plan.links, LINKS)
    known("trace", plan.traces, KINDS)
    known("policy", plan.policies, POLICIES)
    speeds = {name: link_speed(name, plan.threads) for name in plan.links}
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as folder, counting() as progress:
        names = replicas(Path(folder), EXPERTS)
        setting = prepare(
            Path(folder),
            names[0],
            room=ROOM,
            threads=plan.threads,
            max_batch=plan.max_batch,
            max_wait_s=plan.max_wait_s,
        )
        setting = replace(setting, activation_bits=plan.activation_bits)
        said = asked(setting.hosted.bundle(names[0]), plan.prompts, alike)
        samples = await calibrate(setting, names, plan.max_batch)
        machine = fitted(samples, setting.hosted.weight_bytes(names[0]))
        bar = progress.add_task("", total=plan.answers)
        runs = []
        for link, speed in speeds.items():
            for kind in plan.traces:
                drawn = make_trace(kind, plan.prompts, EXPERTS, seed=7).of(names)
                trace = replace(drawn, prompt_tokens=said.lengths, shared_tokens=said.most_shared)
                compare = Comparison(setting, plan, trace, speed, machine)

                def show(what: str, more: int, at: str = f"{kind} {link}") -> None:
                    progress.update(bar, description=f"{at} {what}", advance=more)

                found = await compare.measure(show)
                runs.append({"trace": kind, "link": link, "bytes_per_second": speed or machine.link, **found})
                _show(kind, link, found, err if as_json else out)
        if as_json:
            print_json(
                {
                    "bench": "schedule",
                    "prompts": plan.prompts,
                    "rounds": plan.rounds,
                    "activation_bits": activation_bits.used(plan.activation_bits),
                    "hardware": asdict(machine),
                    "runs": runs,
                }
            )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Compares all policies on one trace and one link."""

    setting: Setting
    plan: Plan
    trace: Trace
    speed: float
    machine: Hardware

    async def measure(self, show: Callable[[str, int], None]) -> dict[str, object]:
        rounds: dict[str, list[Answered]] = {policy: [] for policy in self.plan.policies}
        for _ in range(self.plan.rounds):
            for policy, answers in rounds.items():
                answers.append(await self._serve(self.trace.paced(0), policy, f"{policy}, all at once", show))
        median = {policy: _median(answers) for policy, answers in rounds.items()}
        report = {policy: _throughput(answered) for policy, answered in median.items()}
        rate, bound = 0.9 * median[BASELINE].prompts_s, self._bound(median[BASELINE])
        for policy in self.plan.policies if self.plan.paced_prompts else ():
            paced = self.trace.first(self.plan.paced_prompts).paced(rate)
            report[policy] |= _waits(await self._serve(paced, policy, f"{policy}, paced", show))
        return {"bound_prompts_s": bound, "policies": report}

    async def _serve(self, trace: Trace, policy: str, what: str, show: Callable[[str, int], None]) -> Answered:
        answered = await serve(self.setting, trace, policy, link=self.speed, progress=lambda more: show(what, more))
        err.print(f"{what}: {len(trace)} prompts in {answered.seconds:.1f} s")
        return answered

    def _bound(self, answered: Answered) -> float:
        machine = replace(self.machine, link=self.speed or self.machine.link)
        trace = replace(self.trace, output_tokens=answered.output_tokens)
        nbytes = self.setting.hosted.weight_bytes(trace.experts[0])
        return len(trace) / shortest_s(trace, machine, expert_bytes=nbytes, max_batch=self.plan.max_batch)


def _median(rounds: Sequence[Answered]) -> Answered:
    """The round with median throughput; of two middle rounds, the slower one."""
    return sorted(rounds, key=lambda answered: answered.prompts_s)[(len(rounds) - 1) // 2]


def _throughput(answered: Answered) -> dict[str, float]:
    """`cpu_s_per_prompt` is the worker's. On a shared machine it varies less than throughput."""
    meter, prompts = answered.meter, len(answered.waits)
    return {
        "prompts_s": answered.prompts_s,
        "tokens_s": sum(answered.output_tokens) / answered.seconds,
        "cpu_s_per_prompt": answered.cpu_s / prompts,
        "switches": answered.switches,
        "bytes_moved": answered.bytes_moved,
        "sequences_per_step": meter.sequences / meter.steps,
        "engine_share": meter.seconds / answered.seconds,
    }


def _waits(answered: Answered) -> dict[str, float]:
    """Waits for a prompt's first step and for its first token, which differ as a step may start during the copy."""
    shares = (("p50", 50), ("p99", 99), ("max", 100))
    waits = {f"{name}_wait_s": float(np.percentile(answered.waits, share)) for name, share in shares}
    return waits | {
        f"{name}_first_token_s": float(np.percentile(answered.first_tokens, share)) for name, share in shares
    }


def _show(kind: str, link: str, found: dict[str, Any], console: Console) -> None:
    report, bound = found["policies"], found["bound_prompts_s"]
    base = report[BASELINE]
    for policy, one in report.items():
        waits = f", p50 {one['p50_wait_s']:.2f} s, p99 {one['p99_wait_s']:.2f} s" if "p99_wait_s" in one else ""
        times = one["prompts_s"] / base["prompts_s"]
        console.print(
            f"{kind:7} {link:6} {policy:10} {one['prompts_s']:6.2f} prompts/s (x{times:.2f}, "
            f"{one['prompts_s'] / bound:.0%} of the bound), {one['sequences_per_step']:.1f} sequences per step, "
            f"{one['cpu_s_per_prompt']:.3f} s CPU each, "
            f"{one['switches']:.0f} switches ({one['switches'] / base['switches']:.0%}){waits}"
        )
