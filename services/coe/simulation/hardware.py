"""The machines to simulate. Every number cites its source or is marked as assumed.

LLAMA2_7B is the expert of the SN40L paper (arXiv 2405.07518, section VI: 150 experts derived from Llama2-7B, BF16).
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from coe.experts.prefill_budget import PREFILL_TOKENS
from coe.platform.errors import ArtifactError
from coe.simulation.measured import Measured, at

GIB = 1024**3
LLAMA2_7B = 13_476_000_000  # 6.738e9 parameters, 2 bytes each


@dataclass(frozen=True, slots=True)
class Hardware:
    """One node, in bytes, bytes per second and seconds.

    A decode step of n sequences takes step_s + sequence_s * n, but at least floor_s, because each step reads all the
    weights. A prompt's prefill takes prefill_s + token_s * tokens, plus the step that samples its first token.

    `overlap`: execution may start while later layers are still being copied, and copies run during execution.
    `measured`: times that override step_s, sequence_s, floor_s, prefill_s and token_s. Prompts are then computed in
    steps, as the worker does.
    """

    name: str
    hbm_bytes: int
    store_bytes: int
    link: float
    step_s: float
    sequence_s: float
    prefill_s: float
    token_s: float = 0.0
    overlap: bool = False
    floor_s: float = 0.0
    measured: Measured | None = None

    def decode_s(self, sequences: float) -> float:
        """A step of this many sequences, or the mean over steps that average this many."""
        if self.measured is not None:
            return at(self.measured.decode, sequences)
        return max(self.floor_s, self.step_s + self.sequence_s * sequences)

    def load_s(self, nbytes: int) -> float:
        return nbytes / self.link

    def first_load_s(self, nbytes: int) -> float:
        """An expert's first copy, which comes from the store."""
        return nbytes / min(self.link, self.measured.first_link if self.measured else self.link)

    def fresh_load_s(self, nbytes: int) -> float:
        """The first copy into a part of HBM."""
        return nbytes / min(self.link, self.measured.fresh_link if self.measured else self.link)

    def holds(self, nbytes: int) -> int:
        """How many experts of this size fit in HBM."""
        return self.hbm_bytes // nbytes

    def run_s(self, prompts: int, max_batch: int, tokens: float, prompt_tokens: float = 0.0) -> float:
        """Answering `prompts` with `tokens` each, in full batches and with resident weights."""
        full, rest = divmod(prompts, max_batch)
        steps = full * self.decode_s(max_batch) + (self.decode_s(rest) if rest else 0.0)
        return steps * tokens + self._prefills_s(prompts, prompt_tokens)

    def _prefills_s(self, prompts: int, prompt_tokens: float) -> float:
        measured = self.measured
        if measured is None:
            return prompts * (self.prefill_s + self.token_s * prompt_tokens)
        tokens = prompts * prompt_tokens
        steps = max(1.0, tokens / PREFILL_TOKENS)
        return steps * at(measured.prefill, tokens / steps) + prompts * measured.prompt_s


# Decode: the weights once per token over 8 sockets x 1.8 TB/s (Table II), at 85 % of that (section VI-C).
# Prefill of one prompt (router or expert): 40 ms, assumed, as the paper gives no prompt length. That is the time of
# 2,000 tokens at a fifth of peak.
SN40L_NODE = Hardware(
    "sn40l-node", 512 * GIB, 12_000_000_000_000, 1e12, LLAMA2_7B / (8 * 1.8e12 * 0.85), 0.0, prefill_s=0.040
)

# The same expert on one socket (tensor parallelism 1).
SN40L_SOCKET = Hardware(
    "sn40l-socket", 64 * GIB, 1_500_000_000_000, 200e9, LLAMA2_7B / (1.8e12 * 0.85), 0.0, prefill_s=0.320
)


def dgx(name: str, link: float, expert_20: float, expert_200: float) -> Hardware:
    """A DGX with 640 GB of HBM and 2 TB of host memory behind one host link.

    Its execution is calibrated on two ratios from Table V: expert only, batch 1, with 20 and with 200 output tokens.
    The rows about switching and about the whole system follow from that.
    """
    sn = SN40L_NODE
    time_20 = expert_20 * (sn.prefill_s + 20 * sn.step_s)
    time_200 = expert_200 * (sn.prefill_s + 200 * sn.step_s)
    step_s = (time_200 - time_20) / 180
    return Hardware(name, 640_000_000_000, 2_000_000_000_000, link, step_s, 0.0, time_20 - 20 * step_s)


DGX_A100 = dgx("dgx-a100", 32e9, expert_20=2.0, expert_200=3.2)
DGX_H100 = dgx("dgx-h100", 64e9, expert_20=1.5, expert_200=2.3)

# Approximates SmolLM2-135M (97 MB) on two AVX2 cores. `coe bench calibrate` measures the actual machine.
HOST = Hardware("host", 1 * GIB, 24 * GIB, 20e9, 0.010, 0.0015, 0.030, 0.0, overlap=True)


def read_calibration(path: Path) -> Hardware:
    """Reads the output of `coe bench calibrate --json`. Raises ArtifactError if it can't be read."""
    try:
        fields = json.loads(path.read_text())["hardware"]
        if fields.get("measured") is not None:
            fields["measured"] = Measured.of(fields["measured"])
        return Hardware(**fields)
    except OSError as error:
        raise ArtifactError(f"can't read {path}: {error.strerror}") from error
    except KeyError as error:
        raise ArtifactError(f"{path} is not a calibration: it has no {error}") from error
    except (ValueError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path} is not a calibration: {error}") from error


HARDWARE = {machine.name: machine for machine in (HOST, SN40L_SOCKET, SN40L_NODE, DGX_A100, DGX_H100)}


def with_budget(machine: Hardware, experts: int, nbytes: int) -> Hardware:
    """The same machine with an HBM that holds this many experts of this size."""
    return replace(machine, hbm_bytes=experts * nbytes)
