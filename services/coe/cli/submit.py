"""`coe submit`: produces prompts to Kafka and streams the answers back."""

import asyncio
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from google.protobuf.json_format import ParseDict, ParseError

from coe._proto import common_pb2, events_pb2
from coe.cli.answers import Answer, collect, print_answer, print_streaming
from coe.cli.asked import MaxTokens, utf8
from coe.cli.console import print_json
from coe.cli.servers import connect
from coe.client.prompts import PromptClient
from coe.platform.errors import InvalidPrompt

BUDGETS = ("quality", "balanced", "economy")


def command(
    text: Annotated[str | None, typer.Argument(help="The prompt; - reads it from stdin.")] = None,
    file: Annotated[Path | None, typer.Option(help="File with one PromptSubmitted per line, as JSON.")] = None,
    expert: Annotated[str, typer.Option(help="Use this expert instead of routing.")] = "",
    budget: Annotated[
        str, typer.Option(help="quality, balanced, economy, or a number of parameters in billions.")
    ] = "",
    max_tokens: MaxTokens = None,
    timeout: Annotated[
        float, typer.Option(min=0.1, help="Seconds to wait for each prompt; also its deadline.")
    ] = 120.0,
    kafka: Annotated[str | None, typer.Option(help="Bootstrap servers. Default: the running stack's.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One PromptCompleted per line, as JSON.")] = False,
) -> None:
    """Exits with status 1 if a prompt failed. Answers stream to a terminal, but go to a pipe or file when complete."""
    prompts = list(read(text, file, expert, budget, max_tokens))
    answers = asyncio.run(submit(prompts, timeout, kafka, as_json))
    if any(answer.failed for answer in answers):
        sys.exit(1)


async def submit(
    prompts: list[events_pb2.PromptSubmitted], timeout_s: float, kafka: str | None, as_json: bool
) -> list[Answer]:
    async with connect(kafka) as bus, PromptClient(bus) as client:
        if len(prompts) == 1 and not as_json:
            return [await print_streaming(client, prompts[0], timeout_s)]
        answers = []
        async for answer in collect(client, prompts, timeout_s):
            answers.append(answer)
            if as_json:
                print_json(answer.result)
            else:
                print_answer(answer)
        return answers


def read(
    text: str | None, file: Path | None, expert: str, budget: str, max_tokens: int | None
) -> Iterator[events_pb2.PromptSubmitted]:
    """The prompts given on the command line. Raises InvalidPrompt, naming the offending line of a file."""
    if (text is None) == (file is None):
        raise InvalidPrompt("give either TEXT or --file")
    utf8(expert, "--expert")
    wanted = parse_budget(budget)
    lines = read_lines(file) if file is not None else [(1, {"prompt": typed(text or "")})]
    for number, fields in lines:
        try:
            prompt = ParseDict(fields, events_pb2.PromptSubmitted())
        except ParseError as error:
            where = "" if file is None else f"{file}, line {number}: "
            raise InvalidPrompt(f"{where}{' '.join(str(error).split())}") from None
        if not (prompt.prompt.strip() or prompt.messages or prompt.token_ids):
            raise InvalidPrompt(
                "the prompt is empty" if file is None else f"{file}, line {number}: the prompt is empty"
            )
        prompt.expert_id = prompt.expert_id or expert
        if max_tokens is not None and not prompt.sampling.HasField("max_tokens"):
            prompt.sampling.max_tokens = max_tokens
        if wanted is not None and not prompt.HasField("budget"):
            prompt.budget.CopyFrom(wanted)
        yield prompt


def read_lines(file: Path) -> list[tuple[int, dict[str, Any]]]:
    lines: list[tuple[int, dict[str, Any]]] = []
    try:
        # Some editors start files with a byte order mark.
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidPrompt(f"{file} is not UTF-8 text: {error}") from None
    # Only a line feed ends a line: a prompt may hold what else Unicode takes for one.
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                fields = json.loads(line)
            except json.JSONDecodeError as error:
                raise InvalidPrompt(
                    f"{file}, line {number}: invalid JSON at column {error.colno}: {error.msg}"
                ) from None
            except RecursionError:
                raise InvalidPrompt(f"{file}, line {number}: nested too deeply") from None
            except ValueError:
                # More digits than Python parses.
                raise InvalidPrompt(f"{file}, line {number}: a number is too long") from None
            if not isinstance(fields, dict):
                raise InvalidPrompt(f'{file}, line {number}: expected a JSON object such as {{"prompt": "Hello"}}')
            lines.append((number, fields))
    if not lines:
        raise InvalidPrompt(f"{file} contains no prompts")
    return lines


def typed(text: str) -> str:
    """The prompt from the command line, or from standard input for `-`."""
    try:
        return utf8(sys.stdin.read() if text == "-" else text, "the prompt")
    except UnicodeDecodeError:
        raise InvalidPrompt("the prompt is not UTF-8 text") from None


def parse_budget(budget: str) -> common_pb2.Budget | None:
    """None if `budget` is empty. Raises InvalidPrompt."""
    if not budget or budget in BUDGETS:
        return common_pb2.Budget(name=budget) if budget else None
    try:
        billions = float(budget)
    except ValueError:
        billions = math.nan
    if not 0 < billions < math.inf:
        raise InvalidPrompt(f"--budget {budget!a}: expected {', '.join(BUDGETS)}, or billions of parameters above 0")
    return common_pb2.Budget(active_params_b=billions)
