"""Traces: which prompts arrive when. Either drawn from a seed or recorded."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from coe.platform.errors import InvalidPrompt

KINDS = ("zipf", "bursty", "drift", "multi-turn", "tenants", "uniform", "cyclic")


@dataclass(frozen=True, slots=True)
class Trace:
    """Parallel lists in order of arrival: seconds from the start, experts and token counts.

    `shared_tokens`: the length of the prefix that all prompts share (the chat template), in whole KV-cache blocks.
    """

    arrivals: list[float]
    experts: list[str]
    prompt_tokens: list[int]
    output_tokens: list[int]
    shared_tokens: int = 0

    def __len__(self) -> int:
        return len(self.arrivals)

    def append(self, arrival: float, expert: str, prompt_tokens: int, output_tokens: int) -> None:
        """Adds a prompt, which must not arrive before the last one."""
        self.arrivals.append(arrival)
        self.experts.append(expert)
        self.prompt_tokens.append(prompt_tokens)
        self.output_tokens.append(output_tokens)

    def paced(self, factor: float) -> "Trace":
        """The same prompts, arriving `factor` times as fast. With 0, all arrive at the start."""
        arrivals = [0.0] * len(self) if factor == 0 else [arrival / factor for arrival in self.arrivals]
        return replace(self, arrivals=arrivals)

    def of(self, experts: Sequence[str]) -> "Trace":
        """The same trace for these experts, in place of the generated names. There must be as many of them."""
        called = dict(zip(names(len(experts)), experts, strict=True))
        return replace(self, experts=[called[drawn] for drawn in self.experts])

    def first(self, prompts: int) -> "Trace":
        """The trace of its first `prompts`."""
        return Trace(
            self.arrivals[:prompts],
            self.experts[:prompts],
            self.prompt_tokens[:prompts],
            self.output_tokens[:prompts],
            self.shared_tokens,
        )


def names(experts: int) -> list[str]:
    width = len(str(experts - 1))
    return [f"expert-{number:0{width}}" for number in range(experts)]


def zipf(experts: int, exponent: float = 1.0) -> np.ndarray:
    """Zipf probabilities, [experts], the most popular first."""
    weights = np.arange(1, experts + 1, dtype=float) ** -exponent
    law: np.ndarray = weights / weights.sum()
    return law


def make_trace(
    kind: str,
    prompts: int,
    experts: int,
    *,
    rate: float = 1.0,
    exponent: float = 1.0,
    output_tokens: tuple[int, int] = (16, 32),
    prompt_tokens: tuple[int, int] = (16, 64),
    seed: int = 0,
) -> Trace:
    """Draws a trace of one of KINDS. Raises InvalidPrompt for any other.

    `rate`: prompts per second. Token counts are uniform between the two bounds, inclusive.

    * zipf: Poisson arrivals, experts drawn by Zipf's law
    * bursty: the same, in bursts (geometric, mean 20) at ten times the rate, with pauses between them
    * drift: Zipf's law over an order that rotates by one expert every 1/50 of the trace
    * multi-turn: conversations of 1 to 8 turns that stay with their expert
    * tenants: 8 tenants, each with Zipf's law over its own order
    * uniform: all experts equally likely
    * cyclic: each expert in turn, so that LRU always misses
    """
    rng = np.random.default_rng(seed)
    law = zipf(experts, exponent)
    gaps = rng.exponential(1 / rate, prompts)
    match kind:
        case "zipf":
            chosen = rng.choice(experts, prompts, p=law)
        case "bursty":
            chosen, gaps = rng.choice(experts, prompts, p=law), _burst_gaps(rng, prompts, rate)
        case "drift":
            chosen = (rng.choice(experts, prompts, p=law) + np.arange(prompts) * 50 // prompts) % experts
        case "multi-turn":
            chosen = _conversations(rng, law, prompts)
        case "tenants":
            orders = np.stack([rng.permutation(experts) for _ in range(8)])
            chosen = orders[rng.integers(8, size=prompts), rng.choice(experts, prompts, p=law)]
        case "uniform":
            chosen = rng.integers(experts, size=prompts)
        case "cyclic":
            chosen = np.arange(prompts) % experts
        case _:
            raise InvalidPrompt(f"unknown kind of trace {kind!r}: one of {', '.join(KINDS)}")
    called = names(experts)
    return Trace(
        np.cumsum(gaps).tolist(),
        [called[index] for index in chosen],
        rng.integers(prompt_tokens[0], prompt_tokens[1] + 1, prompts).tolist(),
        rng.integers(output_tokens[0], output_tokens[1] + 1, prompts).tolist(),
    )


def _burst_gaps(rng: np.random.Generator, prompts: int, rate: float, mean: float = 20.0) -> np.ndarray:
    """Seconds before each prompt. A pause before each burst keeps the average at `rate`."""
    first = rng.random(prompts) < 1 / mean
    within = 0.1 / rate
    pause = (1 / rate - within * (1 - 1 / mean)) * mean
    return rng.exponential(np.where(first, pause, within))


def _conversations(rng: np.random.Generator, law: np.ndarray, prompts: int) -> np.ndarray:
    """Draws experts for 40 concurrent conversations; each prompt is the next turn of a random one."""
    experts = rng.choice(len(law), 40, p=law)
    left = rng.integers(1, 9, 40)
    chosen = np.empty(prompts, int)
    for index, at in enumerate(rng.integers(40, size=prompts)):
        chosen[index] = experts[at]
        left[at] -= 1
        if left[at] == 0:
            experts[at], left[at] = rng.choice(len(law), p=law), rng.integers(1, 9)
    return chosen


def read_trace(path: Path) -> Trace:
    """Reads one object per line: {"arrival_s", "expert_id", "prompt_tokens", "output_tokens"}.

    Raises InvalidPrompt if a line is invalid or the trace is empty.
    """
    rows = []
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                rows += [_row(json.loads(line))] if line.strip() else []
            except KeyError as error:
                raise InvalidPrompt(f"{path}:{number} is not a trace line: it has no {error}") from None
            except (ValueError, TypeError, OverflowError, RecursionError) as error:
                # Not the repr, which would include the whole line if it is not valid UTF-8.
                raise InvalidPrompt(f"{path}:{number} is not a trace line: {error}") from None
    if not rows:
        raise InvalidPrompt(f"{path} contains no prompts")
    rows.sort()
    return Trace([row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows], [row[3] for row in rows])


def _row(line: dict[str, Any]) -> tuple[float, str, int, int]:
    arrival, asked, answered = float(line["arrival_s"]), int(line["prompt_tokens"]), int(line["output_tokens"])
    if not 0 <= arrival < float("inf"):
        raise ValueError("arrival_s must be seconds from the start")
    if asked < 0 or answered < 1:
        raise ValueError("prompt_tokens must be 0 or more, output_tokens 1 or more")
    return arrival, str(line["expert_id"]), asked, answered
