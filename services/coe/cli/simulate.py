"""`coe simulate`: policies on traces, the SN40L paper's table, and capacity planning for clusters."""

import asyncio
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import uvloop
from rich.table import Table

from coe.cli.asked import known
from coe.cli.console import out, print_json
from coe.platform.errors import InvalidPrompt
from coe.platform.processors import processors
from coe.scheduling import POLICIES, make_policy
from coe.simulation.hardware import HARDWARE, Hardware, read_calibration, with_budget
from coe.simulation.node import serve
from coe.simulation.offline import fewest_loads
from coe.simulation.paper import ASSUMPTIONS, paper_rows
from coe.simulation.plan import Wish, overlapping
from coe.simulation.trace import KINDS, Trace, make_trace, read_trace

app = typer.Typer(no_args_is_help=True)
Json = Annotated[bool, typer.Option("--json", help="One JSON object per line.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed generates the same traces.")]
Machine = Annotated[str, typer.Option(help=f"One of {', '.join(HARDWARE)}.")]

BATCH = "Sequences that generate together."


def _machine(name: str) -> Hardware:
    known("machine", [name], HARDWARE)
    return HARDWARE[name]


@app.command()
def paper(as_json: Json = False) -> None:
    """Reproduce Table V and the capacity figures of the SN40L paper."""
    rows = paper_rows()
    if as_json:
        print_json({"rows": [asdict(row) | {"error": row.error} for row in rows], "assumptions": list(ASSUMPTIONS)})
        return
    table = Table("figure", "published", "simulated", "error")
    for row in rows:
        error = "calibrated" if row.calibrated else f"{row.error:+.1%}"
        table.add_row(row.figure, f"{row.published:g}", f"{row.simulated:.2f}", error)
    out.print(table)
    for assumption in ASSUMPTIONS:
        out.print(f"- {assumption}")


@app.command()
def policies(
    trace: Annotated[str, typer.Option(help=f"{', '.join(KINDS)}, or a file of JSON lines.")] = "zipf",
    prompts: Annotated[int, typer.Option(min=1, help="For generated traces.")] = 4000,
    experts: Annotated[int, typer.Option(min=1, help="For generated traces.")] = 48,
    room: Annotated[int, typer.Option(min=1, help="Number of experts that fit in HBM.")] = 8,
    expert_mb: Annotated[float, typer.Option(min=0.001, help="Expert size in megabytes.")] = 97.0,
    machine: Machine = "host",
    calibration: Annotated[
        Path | None, typer.Option(help="Output of `coe bench calibrate --json`, used instead of a machine profile.")
    ] = None,
    link: Annotated[float, typer.Option(min=0.0, help="Bytes/s into HBM; 0: the machine's.")] = 0.0,
    rate: Annotated[float, typer.Option(min=0.0, help="Prompts/s; 0: all queued at the start.")] = 0.0,
    max_batch: Annotated[int, typer.Option(min=1, help=BATCH)] = 64,
    max_wait: Annotated[float, typer.Option(min=0.0, help="Ageing bound in seconds.")] = 20.0,
    policy: Annotated[list[str] | None, typer.Option(help="Policy to compare; may be repeated.")] = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Compare scheduling policies on one node."""
    known("policy", policy or (), POLICIES)
    expert_bytes = int(expert_mb * 1e6)
    whole = read_calibration(calibration) if calibration else _machine(machine)
    hardware = with_budget(whole, room, expert_bytes)
    if link:
        hardware = replace(hardware, link=link)
    drawn = _trace(trace, prompts, experts, rate, seed)
    table = Table("policy", "prompts/s", "switches", "p50 wait", "p99 wait", "max wait", "simulated/min")
    for name in policy or POLICIES:
        # CPU time, which other load on the machine does not affect.
        began = time.process_time()
        served = serve(
            drawn, hardware, make_policy(name, max_wait=max_wait), expert_bytes=expert_bytes, max_batch=max_batch
        )
        per_minute = 60 * len(drawn) / (time.process_time() - began)
        p50, p99, longest = (float(value) for value in np.percentile(served.waits, (50, 99, 100)))
        if as_json:
            print_json(
                {
                    "policy": name,
                    "prompts_s": served.prompts_s,
                    "switches": served.loads,
                    "bytes_moved": served.loads * expert_bytes,
                    "p50_wait_s": p50,
                    "p99_wait_s": p99,
                    "max_wait_s": longest,
                    "simulated_per_minute": per_minute,
                }
            )
        table.add_row(
            name,
            f"{served.prompts_s:.2f}",
            str(served.loads),
            f"{p50:.2f} s",
            f"{p99:.2f} s",
            f"{longest:.2f} s",
            f"{per_minute / 1e6:.2f} M",
        )
    fewest = fewest_loads(drawn, room, max_wait)
    if as_json:
        print_json({"policy": "offline", "switches": fewest})
        return
    table.add_row("offline", "", str(fewest), "", "", "", "")
    out.print(table)


def _trace(name: str, prompts: int, experts: int, rate: float, seed: int) -> Trace:
    if name in KINDS:
        drawn = make_trace(name, prompts, experts, rate=rate or 1.0, seed=seed)
    elif Path(name).is_file():
        drawn = read_trace(Path(name))
    else:
        raise InvalidPrompt(f"unknown trace {name!r}: {', '.join(KINDS)}, or a file")
    return drawn if rate else drawn.paced(0)


@app.command()
def validate(
    traces: Annotated[str, typer.Option(help="Comma-separated traces.")] = "zipf,bursty,drift,multi-turn,tenants",
    prompts: Annotated[int, typer.Option(min=10, help="Prompts per trace; each trace is served twice.")] = 120,
    policy: Annotated[str, typer.Option(help=f"One of {', '.join(POLICIES)}.")] = "lookahead",
    max_batch: Annotated[int, typer.Option(min=4, help=BATCH)] = 64,
    max_wait: Annotated[float, typer.Option(min=0.1, help="Ageing bound in seconds.")] = 20.0,
    threads: Annotated[int, typer.Option(min=1, help="Threads per step.")] = processors(),
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Run traces on real experts and in the simulator of this machine, and compare the results."""
    kinds = traces.split(",")
    known("policy", [policy], POLICIES)
    known("trace", kinds, KINDS)
    from coe.cli import simulate_validate

    work = simulate_validate.run(
        kinds,
        prompts=prompts,
        policy=policy,
        max_batch=max_batch,
        max_wait_s=max_wait,
        threads=threads,
        seed=seed,
        as_json=as_json,
    )
    # On the same event loop as a worker.
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(work)


@app.command()
def plan(
    nodes: Annotated[int, typer.Option(min=1, help="Number of machines.")] = 100,
    experts: Annotated[int, typer.Option(min=1, help="Experts hosted by the whole cluster.")] = 10_000,
    expert_gb: Annotated[float, typer.Option(min=0.001, help="Expert size in gigabytes.")] = 13.476,
    machine: Machine = "sn40l-node",
    policy: Annotated[str, typer.Option(help=f"One of {', '.join(POLICIES)}.")] = "lookahead",
    prompts: Annotated[int, typer.Option(min=1, help="Prompts simulated at each rate.")] = 50_000,
    p99: Annotated[
        float, typer.Option(min=0.001, help="Highest acceptable p99 of the complete answer, in seconds.")
    ] = 5.0,
    node_hour: Annotated[
        float, typer.Option(min=0.0, help="Price of a node-hour; 0: report hours instead of cost.")
    ] = 0.0,
    max_batch: Annotated[int, typer.Option(min=1, help=BATCH)] = 16,
    max_wait: Annotated[float, typer.Option(min=0.0, help="Ageing bound in seconds.")] = 2.0,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Plan a cluster: the highest rate within a latency, cost by rate, and what breaks beyond it."""
    known("policy", [policy], POLICIES)
    from coe.cli import simulate_plan

    wish = Wish(
        overlapping(_machine(machine)),
        nodes,
        experts,
        int(expert_gb * 1e9),
        prompts,
        policy,
        max_batch,
        max_wait,
        p99,
        seed,
    )
    simulate_plan.run(wish, node_hour, as_json)
