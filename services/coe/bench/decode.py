"""`coe bench decode`: tokens a second of prefill and decode, beside the peers, in one run."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from coe.bench.bandwidth import BYTES, read_seconds
from coe.bench.clock import Subject, median_rounds
from coe.bench.peer import Peer
from coe.bench.subject import GraphSubject, Shape
from coe.experts.bundle import Bundle
from coe.experts.single import Hosted

DECODE_STEPS = 64
BANDWIDTH = "read"


@dataclass(frozen=True)
class Case:
    """`prompt` tokens at once, or decode steps of `batch` sequences behind `depth` cached tokens."""

    phase: str
    prompt: int
    depth: int
    batch: int

    @property
    def name(self) -> str:
        return f"{self.phase}-{self.prompt or self.depth}-{self.batch}"


@dataclass(frozen=True)
class Figure:
    """One line of the table; None where a peer was not measured."""

    model: str
    threads: int
    phase: str
    prompt: int
    depth: int
    batch: int
    coe_tokens_s: float
    llama_cpp_tokens_s: float | None = None
    llama_cpp_q4_0_tokens_s: float | None = None
    ort_genai_tokens_s: float | None = None
    ratio: float | None = None


PREFILLS = (Case("prefill", 128, 0, 1), Case("prefill", 512, 0, 1))
DECODES = tuple(Case("decode", 0, depth, batch) for depth in (0, 512) for batch in (1, 4, 8))


@dataclass(frozen=True)
class PeerFiles:
    """What each peer runs: name of its column -> (script, model file)."""

    interpreter: str
    models: dict[str, tuple[str, Path]]


def tokens(case: Case, steps: int) -> int:
    return case.batch * (case.prompt if case.phase == "prefill" else steps)


def run(bundle: Bundle, threads: int, rounds: int, steps: int, peers: PeerFiles | None) -> Iterator[dict[str, object]]:
    """Yields one object a case, then the summary."""
    with Hosted.load(bundle, threads=threads, kv_bytes=1 << 20) as hosted, ExitStack() as stack:
        subject = GraphSubject(bundle)
        running: dict[str, Peer] = {}
        if peers:
            for name, (script, model) in peers.models.items():
                running[name] = stack.enter_context(Peer(script, peers.interpreter, model, threads, 8))
        figures = []
        memory = np.ones(BYTES // 8, np.uint64)
        share = 0.0
        for case in (*PREFILLS, *DECODES):
            seconds = median_rounds(
                {
                    "coe": _ours(subject, case, steps, hosted.lease),
                    **{name: _theirs(peer, case, steps) for name, peer in running.items()},
                    BANDWIDTH: lambda: read_seconds(memory, threads),
                },
                rounds,
            )
            figures.append(_figure(bundle.id, threads, case, steps, seconds))
            if case == DECODES[0]:
                read = bundle.weights_bytes * steps / seconds["coe"]
                share = read / (memory.nbytes / seconds[BANDWIDTH])
            yield {"case": asdict(figures[-1])}
        yield {
            "bench": "decode",
            "cases": [asdict(figure) for figure in figures],
            "bandwidth_share": round(share, 3),
            "versions": {name: peer.version for name, peer in running.items()},
        }


def _ours(subject: GraphSubject, case: Case, steps: int, lease: int) -> Subject:
    if case.phase == "prefill":
        return lambda: subject.prefill(Shape(case.batch, case.prompt, 0), lease)
    return lambda: subject.decode(case.batch, case.depth, steps, lease)


def _theirs(peer: Peer, case: Case, steps: int) -> Subject:
    if case.phase == "prefill":
        return lambda: peer.measure(case.prompt, 1, case.batch)[0]
    return lambda: peer.measure(max(1, case.depth), steps, case.batch)[1]


def _figure(model: str, threads: int, case: Case, steps: int, seconds: dict[str, float]) -> Figure:
    rates = {name: tokens(case, steps) / taken for name, taken in seconds.items() if name != BANDWIDTH}
    ours = rates.pop("coe")
    return Figure(
        model,
        threads,
        **asdict(case),
        coe_tokens_s=round(ours, 1),
        llama_cpp_tokens_s=_rounded(rates.get("llama_cpp")),
        llama_cpp_q4_0_tokens_s=_rounded(rates.get("llama_cpp_q4_0")),
        ort_genai_tokens_s=_rounded(rates.get("ort_genai")),
        ratio=round(ours / max(rates.values()), 3) if rates else None,
    )


def _rounded(rate: float | None) -> float | None:
    return None if rate is None else round(rate, 1)
