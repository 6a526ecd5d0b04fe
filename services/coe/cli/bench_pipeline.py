"""`coe bench pipeline`: prompts per second through the whole Kafka path, and the CPU time per prompt of each process.

There are four loads, each with all prompts submitted at once:

* `echo-fixed`: the router assigns a fixed category instead of running the encoder, the mapper decides, and the worker
  echoes the prompt. This measures broker, bus and loops alone.
* `echo-named`: a router with the encoder, but the client names the expert.
* `echo-routed`: the same, and the encoder decides.
* `generate`: short answers from the packaged expert.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

from coe.cli.bench_lag import settled
from coe.cli.bench_load import ECHO, ECHO_SETTINGS, FIXED_SETTINGS, Load, Running, started_stack, through
from coe.cli.console import out, print_json
from coe.cli.servers import quiet_logs
from coe.local.packaged import EXPERT_ID
from coe.platform import topics

IDLE_PROMPTS = 30
WARM_UP_PROMPTS = 2000


@dataclass(frozen=True)
class Result:
    """`seconds`: from the first submission to the last terminal event. Idle figures: one prompt alone in the stack.

    CPU time covers every process, including this one (`client`).
    """

    load: str
    prompts: int
    errors: int
    seconds: float
    prompts_s: float
    tokens_s: float
    idle_p50_ms: float
    # Records that the consumer groups had not committed at the end.
    lag: int
    cpu_ms_per_prompt: dict[str, float]


async def run(prompts: int, answers: int, workers: int, as_json: bool) -> None:
    quiet_logs()
    loads = (Load("echo-named", prompts, ECHO), Load("echo-routed", max(1, prompts // 10), ""))
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as home:
        await _stack(Path(home), workers, (Load("echo-fixed", prompts, ""),), as_json, FIXED_SETTINGS)
        await _stack(Path(home), workers, loads, as_json, ECHO_SETTINGS)
        if answers:
            await _stack(Path(home), workers, (Load("generate", answers, EXPERT_ID),), as_json, {})


async def _stack(home: Path, workers: int, loads: tuple[Load, ...], as_json: bool, settings: Mapping[str, str]) -> None:
    async with started_stack(home, workers, **settings) as running:
        for load in loads:
            result = await _measure(running, load)
            if as_json:
                print_json({"bench": "pipeline", "workers": workers, **asdict(result)})
            else:
                _show(result)


async def _measure(running: Running, load: Load) -> Result:
    bus, number = running.bus, count()
    async with bus.tail((topics.COMPLETIONS,)) as records:
        # The first prompts are not counted: all code is cold, and the broker's stays so the longest.
        for warm_up in (10, 10, min(load.prompts, WARM_UP_PROMPTS)):
            await through(bus, records, load, warm_up, number)
        idle = sorted([(await through(bus, records, load, 1, number)).seconds for _ in range(IDLE_PROMPTS)])
        before = running.cpu_seconds()
        passed = await through(bus, records, load, load.prompts, number)
        spent = {name: seconds - before.get(name, 0.0) for name, seconds in running.cpu_seconds().items()}
    return Result(
        load.name,
        load.prompts,
        passed.errors,
        passed.seconds,
        load.prompts / passed.seconds,
        passed.tokens / passed.seconds,
        idle[len(idle) // 2] * 1000,
        await settled(running.info.kafka_bootstrap),
        {name: seconds * 1000 / load.prompts for name, seconds in spent.items()},
    )


def _show(result: Result) -> None:
    costs = ", ".join(f"{name} {ms:.2f}" for name, ms in sorted(result.cpu_ms_per_prompt.items(), key=lambda p: -p[1]))
    out.print(
        f"[bold]{result.load}[/bold]: {result.prompts_s:.0f} prompts/s ({result.prompts} in {result.seconds:.1f} s, "
        f"{result.errors} errors, {result.lag} left), {result.tokens_s:.0f} tokens/s, "
        f"alone {result.idle_p50_ms:.0f} ms; CPU ms per prompt: {costs}"
    )
