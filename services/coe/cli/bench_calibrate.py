"""`coe bench calibrate`: this machine as the simulator sees it, measured with the packaged expert."""

import tempfile
from dataclasses import asdict
from pathlib import Path

from coe.bench.calibration import BATCHES, calibrate
from coe.cli.bench_tiers import replicas
from coe.cli.console import out, print_json
from coe.experts.catalogue import Catalogue
from coe.experts.engine import Engine


def run(threads: int, as_json: bool) -> None:
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as folder:
        (expert,) = replicas(Path(folder), 1)
        bundle = Catalogue(Path(folder) / "experts").get(expert)
        machine = calibrate(Engine(threads=threads, kv_bytes=512 << 20, max_batch=max(BATCHES)), bundle, max(BATCHES))
    if as_json:
        print_json({"bench": "calibrate", "expert_bytes": bundle.weights_bytes, "hardware": asdict(machine)})
    else:
        out.print(
            f"step {machine.step_s * 1e3:.1f} ms + {machine.sequence_s * 1e3:.2f} ms a sequence, at least "
            f"{machine.floor_s * 1e3:.1f} ms; prefill {machine.prefill_s * 1e3:.1f} ms a prompt; "
            f"link {machine.link / 1e9:.2f} GB/s"
        )
