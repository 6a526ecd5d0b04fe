"""The cases of `coe bench decode` and their figures. Pure: no clock and no processes."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

OURS = "coe"
# Ours with 8-bit activations, like those of the peers.
IN_BYTES = "coe_8_bits"
PEERS = ("llama_cpp", "llama_cpp_q4_0", "ort_genai")
BATCHES = (1, 4, 8)
DEPTHS = (0, 512)
PROMPTS = (128, 512)


@dataclass(frozen=True)
class Case:
    """`prompt` tokens of `batch` sequences, or decode steps of `batch` sequences after `depth` cached tokens each."""

    phase: Literal["prefill", "decode"]
    prompt: int
    depth: int
    batch: int

    def tokens(self, steps: int) -> int:
        """Tokens of a measurement with this many decode steps, over all sequences."""
        return self.batch * (self.prompt if self.phase == "prefill" else steps)


# One prompt already fills the widest tiles of any kernel, so a larger batch has the same time per token.
PREFILLS = tuple(Case("prefill", prompt, 0, 1) for prompt in PROMPTS)
DECODES = tuple(Case("decode", 0, depth, batch) for depth in DEPTHS for batch in BATCHES)
CASES = (*PREFILLS, *DECODES)


@dataclass(frozen=True)
class Figure:
    """Tokens per second over all sequences of a case; None where a peer was not measured or does not support it."""

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
    # Our rate over that of the fastest peer.
    ratio: float | None = None
    coe_8_bits_tokens_s: float | None = None
    ratio_8_bits: float | None = None


def figure(model: str, threads: int, case: Case, steps: int, seconds: Mapping[str, float]) -> Figure:
    """`seconds`: medians of OURS, of IN_BYTES if measured, and of the PEERS that ran the case."""
    rates = {name: case.tokens(steps) / seconds[name] for name in (OURS, IN_BYTES, *PEERS) if name in seconds}
    rounded = {name: round(rate, 1) for name, rate in rates.items()}
    peers = [rates[name] for name in PEERS if name in rates]
    return Figure(
        model,
        threads,
        **asdict(case),
        coe_tokens_s=rounded[OURS],
        llama_cpp_tokens_s=rounded.get("llama_cpp"),
        llama_cpp_q4_0_tokens_s=rounded.get("llama_cpp_q4_0"),
        ort_genai_tokens_s=rounded.get("ort_genai"),
        ratio=round(rates[OURS] / max(peers), 3) if peers else None,
        coe_8_bits_tokens_s=rounded.get(IN_BYTES),
        ratio_8_bits=round(rates[IN_BYTES] / max(peers), 3) if peers and IN_BYTES in rates else None,
    )
