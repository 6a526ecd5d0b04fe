"""`coe generate`: runs one expert in this process, without services: arena, load, engine."""

import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Annotated

import typer

from coe.cli.asked import MaxTokens, utf8
from coe.cli.catalogue import find_expert
from coe.cli.console import err, print_json
from coe.experts.conversation import Conversation
from coe.experts.sampling_params import DEFAULT_TOKENS, SamplingParams
from coe.experts.sequence import Emission
from coe.experts.single import Hosted
from coe.experts.step_plan import GUESSES
from coe.platform.errors import InvalidPrompt
from coe.platform.processors import processors

REQUEST = "generate"


@dataclass
class _Times:
    """Seconds by phase; prefill ends with the first token."""

    load: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0


def command(
    text: Annotated[str, typer.Argument(help="The prompt.")],
    expert: Annotated[str, typer.Option(help="Expert id (see `coe experts list`).")],
    max_tokens: MaxTokens = None,
    temperature: Annotated[float, typer.Option(help="0: greedy decoding.")] = 0.0,
    top_p: Annotated[
        float, typer.Option(help="Sample from the most likely tokens whose probabilities add up to this.")
    ] = 1.0,
    top_k: Annotated[int, typer.Option(help="Sample from this many most likely tokens; 0: all.")] = 0,
    min_p: Annotated[
        float, typer.Option(help="Sample from tokens at least this likely, relative to the most likely one.")
    ] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Values above 1 reduce repetition.")] = 1.0,
    frequency_penalty: Annotated[
        float, typer.Option(help="Subtracted from a token's logit for each time it was sampled.")
    ] = 0.0,
    presence_penalty: Annotated[
        float, typer.Option(help="Subtracted from the logit of every token sampled so far.")
    ] = 0.0,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed gives the same answer.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="Stop before this text; may be repeated.")] = None,
    json_schema: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Constrain the answer to the JSON schema in this file."),
    ] = None,
    system: Annotated[str, typer.Option(help="System message.")] = "",
    raw: Annotated[bool, typer.Option("--raw", help="Continue the text as is, without a chat template.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads per step.")] = processors(),
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per step, then one with the timings.")
    ] = False,
) -> None:
    """Streams the answer to stdout and timings to stderr. Exits with status 1 if the prompt failed."""
    if not text.strip():
        raise InvalidPrompt("the prompt is empty")
    for what, given in (("the prompt", text), ("--system", system), *(("--stop", one) for one in stop or ())):
        utf8(given, what)
    if raw and system:
        raise InvalidPrompt("--system can't be combined with --raw: a raw prompt has no turns")
    sampling = SamplingParams(
        max_tokens=max_tokens or DEFAULT_TOKENS,
        at_most=max_tokens is None,
        temperature=temperature,
        top_p=top_p,
        top_k=top_k,
        min_p=min_p,
        repetition_penalty=repetition_penalty,
        frequency_penalty=frequency_penalty,
        presence_penalty=presence_penalty,
        seed=seed,
        stop=tuple(stop or ()),
        json_schema=None if json_schema is None else _text_of(json_schema),
    )
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": text})
    bundle = find_expert(expert)
    started = perf_counter()
    with Hosted.load(bundle, threads=threads, guesses=GUESSES) as hosted:
        hosted.wait_loaded()
        times = _Times(load=perf_counter() - started)
        last = _stream(hosted, Conversation(messages, raw=raw), sampling, times, as_json)
    _report(expert, last, times, as_json)
    if last.error is not None:
        raise last.error


def _text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidPrompt(f"{file} is not UTF-8 text: {error}") from None


def _stream(
    hosted: Hosted, conversation: Conversation, sampling: SamplingParams, times: _Times, as_json: bool
) -> Emission:
    hosted.runner.add(REQUEST, conversation, sampling)
    started = perf_counter()
    while True:
        for emission in hosted.runner.step(hosted.lease):
            if not times.prefill:
                times.prefill, started = perf_counter() - started, perf_counter()
            if as_json:
                print_json({"text": emission.text, "tokens": emission.tokens})
            else:
                sys.stdout.write(emission.text)
                sys.stdout.flush()
            if emission.finish_reason is not None:
                times.decode = perf_counter() - started
                return emission


def _report(expert: str, last: Emission, times: _Times, as_json: bool) -> None:
    decoded = last.completion_tokens - 1
    prefill_rate = last.prompt_tokens / times.prefill if times.prefill else 0.0
    decode_rate = decoded / times.decode if times.decode and decoded else 0.0
    if as_json:
        error = last.error
        print_json(
            {
                "expert_id": expert,
                "finish_reason": last.finish_reason,
                **({"error": {"code": error.code, "message": error.message}} if error is not None else {}),
                "text": last.final_text,
                "prompt_tokens": last.prompt_tokens,
                "completion_tokens": last.completion_tokens,
                "load_s": times.load,
                "prefill_s": times.prefill,
                "decode_s": times.decode,
                "prefill_tokens_s": prefill_rate,
                "decode_tokens_s": decode_rate,
            }
        )
        return
    sys.stdout.write("\n")
    err.print(
        f"load {times.load:.3f} s, prefill {last.prompt_tokens} tokens in {times.prefill:.3f} s "
        f"({prefill_rate:.0f} tok/s), decode {decoded} tokens in {times.decode:.3f} s ({decode_rate:.0f} tok/s), "
        f"finish reason: {last.finish_reason}",
        style="dim",
        soft_wrap=True,
    )
