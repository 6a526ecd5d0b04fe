"""`coe bench calibrate`: measures this machine for the simulator, with copies of the packaged expert."""

import asyncio
import tempfile
from dataclasses import asdict
from pathlib import Path

import uvloop

from coe.bench.calibration import EXPERTS, ROOM, calibrate
from coe.bench.node import prepare
from coe.bench.samples import fitted
from coe.bench.tiers import replicas
from coe.cli.console import out, print_json

MAX_BATCH = 64
MAX_WAIT_S = 20.0


def run(threads: int, as_json: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as folder:
        experts = replicas(Path(folder), EXPERTS)
        setting = prepare(
            Path(folder), experts[0], room=ROOM, threads=threads, max_batch=MAX_BATCH, max_wait_s=MAX_WAIT_S
        )
        # On the same event loop as a worker.
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            samples = runner.run(calibrate(setting, experts, MAX_BATCH))
        expert_bytes = setting.hosted.weight_bytes(experts[0])
    machine = fitted(samples, expert_bytes)
    measured = machine.measured
    assert measured is not None
    if as_json:
        print_json({"bench": "calibrate", "expert_bytes": expert_bytes, "hardware": asdict(machine)})
        return
    for what, curve in (("decode step, sequences", measured.decode), ("prefill step, tokens", measured.prefill)):
        out.print(f"{what}: " + ", ".join(f"{n:g}: {seconds * 1e3:.1f} ms" for n, seconds in curve))
    out.print(
        f"between steps {measured.between_s * 1e3:.1f} ms, experts {measured.switch_s * 1e3:.1f} ms; a prompt "
        f"{measured.prompt_s * 1e3:.1f} ms; link {machine.link / 1e9:.1f} GB/s, an expert's first copy "
        f"{measured.first_link / 1e9:.1f}, into new memory {measured.fresh_link / 1e9:.1f} and a first read of it "
        f"{measured.touch_s * 1e3:.0f} ms; a copy takes {measured.copying:.0%} of execution meanwhile, "
        f"and a load {measured.ask_s * 1e3:.1f} ms of it beside"
    )
