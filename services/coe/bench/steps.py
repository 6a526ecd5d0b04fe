"""`coe bench steps`: a step of the graph alone, alternating between this build of the native library and another."""

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from coe.bench.cases import Case
from coe.bench.clock import median_rounds
from coe.bench.peer import Peer, PeerModel
from coe.experts.bundle import Bundle
from coe.native import ops_library_path
from coe.platform.errors import Unavailable

THIS, OTHER = "this", "against"


@dataclass(frozen=True)
class Step:
    """Milliseconds of a step of `batch` sequences: `prompt` new tokens each, or one after `depth` cached ones."""

    phase: str
    prompt: int
    depth: int
    batch: int
    step_ms: float
    against_step_ms: float | None = None
    # Time of this build over that of the other: below 1, this one is faster.
    ratio: float | None = None


def run(
    bundle: Bundle, threads: int, rounds: int, steps: int, cases: Sequence[Case], against: Path | None
) -> dict[str, object]:
    """Returns the result as one object. `steps`: how many decode steps a round averages; a prompt is one step.

    Each library runs in its own process. Raises Unavailable if one of them can't run.
    """
    with ExitStack() as stack:
        libraries = {THIS: ops_library_path()} | ({OTHER: against} if against else {})
        sequences = max(case.batch for case in cases)
        running = {
            name: stack.enter_context(
                Peer(PeerModel(name, "coe", bundle.path), Path(sys.executable), threads, sequences, _with(library))
            )
            for name, library in libraries.items()
        }
        measured = []
        for case in cases:
            subjects = {name: lambda peer=peer, case=case: peer.seconds(case, steps) for name, peer in running.items()}
            medians = median_rounds(subjects, rounds)
            for refusal in medians.refused.values():
                raise Unavailable(refusal)
            measured.append(step(case, steps, medians.seconds))
        return {
            "bench": "steps",
            "model": bundle.id,
            "threads": threads,
            "rounds": rounds,
            "steps": steps,
            "cases": [asdict(line) for line in measured],
            "libraries": {name: peer.version for name, peer in running.items()},
            "settings": {name: peer.settings for name, peer in running.items()},
        }


def step(case: Case, steps: int, seconds: Mapping[str, float]) -> Step:
    """`seconds`: the total of a case's steps, for THIS and, if measured, for OTHER."""
    count = 1 if case.phase == "prefill" else steps
    this, other = seconds[THIS], seconds.get(OTHER)
    return Step(
        **asdict(case),
        step_ms=round(this / count * 1e3, 4),
        against_step_ms=None if other is None else round(other / count * 1e3, 4),
        ratio=None if other is None else round(this / other, 3),
    )


def cases_of(prompts: Sequence[int], batches: Sequence[int], depths: Sequence[int]) -> list[Case]:
    """A single prompt of each length, then decode of each batch at each depth."""
    decodes = [Case("decode", 0, depth, batch) for depth in depths for batch in batches]
    return [*(Case("prefill", prompt, 0, 1) for prompt in prompts), *decodes]


def _with(library: Path) -> dict[str, str]:
    return {**os.environ, "COE_NATIVE_LIBRARY": str(library.resolve())}
