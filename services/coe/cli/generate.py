"""`coe generate`: one expert in this process, without services: arena, load, engine."""

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
    """Seconds by part; the first token ends prefill."""

    load: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0


def command(
    text: Annotated[str, typer.Argument(help="What to say to the expert.")],
    expert: Annotated[str, typer.Option(help="Id of the expert (coe experts list).")],
    max_tokens: MaxTokens = None,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token each time.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Draw from the likeliest tokens that reach this probability.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Draw from so many likeliest tokens; 0 from all.")] = 0,
    min_p: Annotated[float, typer.Option(help="Draw from tokens at least so likely against the likeliest.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1 repeats less.")] = 1.0,
    frequency_penalty: Annotated[float, typer.Option(help="Taken off a token's logit each time it is drawn.")] = 0.0,
    presence_penalty: Annotated[float, typer.Option(help="Taken off the logit of each token that was drawn.")] = 0.0,
    seed: Annotated[int | None, typer.Option(min=0, help="The same seed draws the same answer.")] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be given often.")] = None,
    json_schema: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The answer is JSON of the schema in this file.")
    ] = None,
    system: Annotated[str, typer.Option(help="A system message.")] = "",
    raw: Annotated[bool, typer.Option("--raw", help="The expert goes on with the text, by no chat template.")] = False,
    threads: Annotated[int, typer.Option(min=1, help="Threads of a step.")] = processors(),
    as_json: Annotated[bool, typer.Option("--json", help="One object a step, then one with the figures.")] = False,
) -> None:
    """Streams the answer to stdout, and what it took to stderr. Exit status 1 when it ended with an error."""
    if not text.strip():
        raise InvalidPrompt("the prompt is empty")
    for what, given in (("the prompt", text), ("--system", system), *(("--stop", one) for one in stop or ())):
        utf8(given, what)
    if raw and system:
        raise InvalidPrompt("--system: a raw prompt has no turns")
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
        raise InvalidPrompt(f"{file} is no text in UTF-8: {error}") from None


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
        f"ended by {last.finish_reason}",
        style="dim",
        soft_wrap=True,
    )
