"""`coe simulate validate`: compares the simulator with the real system on this machine."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.table import Table

from coe.bench.node import prepare
from coe.bench.tiers import replicas
from coe.bench.validation import validate
from coe.cli.bench_schedule import EXPERTS, ROOM
from coe.cli.console import out, print_json
from coe.cli.counting import counting


async def run(
    traces: Sequence[str],
    *,
    prompts: int,
    policy: str,
    max_batch: int,
    max_wait_s: float,
    threads: int,
    seed: int,
    as_json: bool,
) -> None:
    table = Table("trace", "figure", "real", "simulated", "error", "slower", "slow to fast", "tries")
    rows = []
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as folder, counting() as progress:
        experts = replicas(Path(folder), EXPERTS)
        setting = prepare(
            Path(folder), experts[0], room=ROOM, threads=threads, max_batch=max_batch, max_wait_s=max_wait_s
        )
        bar = progress.add_task("", total=2 * prompts * len(traces))

        def show(trace: str, more: int) -> None:
            progress.update(bar, description=trace, advance=more)

        async for row in validate(
            setting, experts, traces, room=ROOM, prompts=prompts, policy=policy, seed=seed, progress=show
        ):
            rows.append(asdict(row) | {"error": row.error})
            progress.console.print(f"{row.trace}: {row.figure} {row.real:.2f}, simulated {row.simulated:.2f}")
            table.add_row(
                row.trace,
                row.figure,
                f"{row.real:.3f}",
                f"{row.simulated:.3f}",
                f"{row.error:+.1%}",
                f"{row.slower:.2f}",
                f"{row.unsteady:.2f}",
                str(row.tries),
            )
    if as_json:
        print_json({"policy": policy, "prompts": prompts, "rows": rows})
    else:
        out.print(table)
