"""`coe bench NAME`: measurements, as figures or as JSON. Each benchmark's module is imported when it runs."""

import asyncio
from typing import Annotated

import typer

app = typer.Typer(help="Measure, and print the figures as JSON.", no_args_is_help=True)
AsJson = Annotated[bool, typer.Option("--json", help="One object a line.")]


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
