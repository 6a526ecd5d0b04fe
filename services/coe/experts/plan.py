"""Sizes an expert of a given shape for each tier, without needing its weights."""

from dataclasses import dataclass

from coe.experts.config import ModelConfig
from coe.experts.kv_format import KvFormat, bytes_per_token
from coe.experts.layout import place, plan_without_weights
from coe.native import packing

# Columns per block (32 if not listed). A matrix that is not whole blocks falls back to 8 bits or, failing that, 16.
_BLOCK_COLUMNS = {"q4_k": 256, "q5_k": 256, "q6_k": 256, "f32": 1, "f16": 1, "bf16": 1}


@dataclass(frozen=True)
class ExpertPlan:
    """Sizes of weights.coe (the same on disk, in DDR and in HBM) and of the KV cache."""

    parameters: int
    weights_bytes: int
    kv_bytes_per_token: int
    kv_bytes_full_context: int


@dataclass(frozen=True)
class Fit:
    """How many such experts each tier can hold, and how many tokens of KV cache fit in the rest of HBM."""

    ddr_slots: int
    hbm_slots: int
    kv_tokens_beside: int


def plan_expert(config: ModelConfig, weight_format: str, kv_format: KvFormat = "f32") -> ExpertPlan:
    """`weight_format` is one of coe.native.packing.FORMATS."""

    def format_of(cols: int) -> str:
        for candidate in (weight_format, "q8_0", "f16"):
            if cols % _BLOCK_COLUMNS.get(candidate, 32) == 0:
                return candidate
        raise AssertionError("f16 takes any number of columns")

    planned = plan_without_weights(config, format_of)
    placed = place(planned, packing.packed_nbytes)
    last = next(reversed(placed.values()))
    per_token = bytes_per_token(config, kv_format)
    return ExpertPlan(
        parameters=sum(tensor.rows * tensor.cols for tensor in planned),
        weights_bytes=last.offset + last.nbytes,
        kv_bytes_per_token=per_token,
        kv_bytes_full_context=per_token * config.context_length,
    )


def fit(plan: ExpertPlan, hbm_bytes: int, ddr_bytes: int) -> Fit:
    slots = hbm_bytes // plan.weights_bytes
    left = hbm_bytes - slots * plan.weights_bytes if slots else 0
    return Fit(ddr_bytes // plan.weights_bytes, slots, left // plan.kv_bytes_per_token)
