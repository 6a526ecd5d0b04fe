"""ModelConfig from a Hugging Face config.json."""

import math
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from coe.experts.config import MAX_HEAD_DIM, ModelConfig
from coe.experts.invalid import first_problem
from coe.platform.errors import ArtifactError

# model_type -> (architecture, layers per group of alternating windows).
FAMILIES = {
    "llama": ("llama", 1),
    "mistral": ("llama", 1),
    "qwen2": ("qwen2", 1),
    "qwen3": ("qwen3", 1),
    "gemma2": ("gemma2", 2),
    "gemma3_text": ("gemma3", 6),
}
# Values that config.json omits: files are written without what equals the family's defaults. Gemma 3's from 4B up give
# little more than sizes.
GEMMA: dict[str, float] = {
    "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "query_pre_attn_scalar": 256,
    "sliding_window": 4096, "tie_word_embeddings": True,
}  # fmt: skip
DEFAULTS = {
    "gemma2": GEMMA | {
        "vocab_size": 256_000, "max_position_embeddings": 8192,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
    },
    "gemma3_text": GEMMA | {"vocab_size": 262_208, "max_position_embeddings": 131_072, "rope_theta": 1_000_000.0},
}  # fmt: skip


def read_hf_config(document: Mapping[str, Any]) -> ModelConfig:
    """Raises ArtifactError for an unsupported family or invalid values."""
    text = document.get("text_config", document)
    if not isinstance(text, dict):
        raise ArtifactError("config.json has no usable text_config")
    kind = text.get("model_type") or document.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise ArtifactError(f"model type {kind!r} is not supported (supported: {', '.join(FAMILIES)})")
    try:
        return ModelConfig(**_values({**DEFAULTS.get(kind, {}), **text}, *FAMILIES[kind]))
    except ValidationError as error:
        raise ArtifactError(f"config.json is invalid: {first_problem(error)}") from error
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise ArtifactError(f"config.json has a missing or wrong value: {error!r}") from error


def _values(text: Mapping[str, Any], architecture: str, pattern: int) -> dict[str, Any]:
    gemma = architecture.startswith("gemma")
    heads, hidden = text["num_attention_heads"], text["hidden_size"]
    head_dim = text.get("head_dim") or hidden // heads
    if head_dim > MAX_HEAD_DIM:
        raise ValueError(f"head_dim is {head_dim}, above {MAX_HEAD_DIM}")
    rope, local_rope = _rope(text)
    values: dict[str, Any] = {
        "architecture": architecture,
        "layers": text["num_hidden_layers"],
        "hidden": hidden,
        "heads": heads,
        "kv_heads": text.get("num_key_value_heads") or heads,
        "head_dim": head_dim,
        "feed_forward": text["intermediate_size"],
        "vocabulary": text["vocab_size"],
        "context_length": text["max_position_embeddings"],
        "norm_epsilon": text.get("rms_norm_eps", 1e-6),
        "rope_theta": rope["rope_theta"],
        "rope_dim": head_dim,
        "rope_factors": _factors(rope, head_dim),
        "attention_scale": head_dim**-0.5,
        "tied": bool(text.get("tie_word_embeddings")),
        "qkv_bias": architecture == "qwen2" or bool(text.get("attention_bias")),
        "qk_norm": architecture in ("qwen3", "gemma3"),
    }
    if not gemma:
        if (activation := text.get("hidden_act") or "silu") != "silu":
            raise ArtifactError(f"activation {activation!r} is not supported")
        if (text.get("use_sliding_window") or architecture == "llama") and text.get("sliding_window"):
            raise ArtifactError("a sliding window is only supported for Gemma")
        return values
    values |= {
        "activation": "gelu",
        "post_norms": True,
        "embedding_scale": hidden**0.5,
        "window": text.get("sliding_window") or 0,
        "window_pattern": _pattern(text, pattern),
        "attention_softcap": text.get("attn_logit_softcapping") or 0.0,
        "logit_softcap": text.get("final_logit_softcapping") or 0.0,
        "attention_scale": text["query_pre_attn_scalar"] ** -0.5,
    }
    if architecture == "gemma3":
        values["local_rope_theta"] = local_rope["rope_theta"]
    return values


def _rope(text: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Rotary parameters of global and of local layers, from the older or the newer form of the file."""
    new = text.get("rope_parameters") or {}
    if "full_attention" in new:
        return dict(new["full_attention"]), dict(new["sliding_attention"])
    old = text.get("rope_scaling") or {}
    rope = {"rope_theta": text.get("rope_theta", 10_000.0), **old, **new}
    return rope, {"rope_theta": text.get("rope_local_base_freq", 10_000.0)}


def _factors(rope: Mapping[str, Any], head_dim: int) -> tuple[float, ...]:
    """Divisors of the rotary frequencies."""
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind == "default":
        return ()
    if kind == "linear":
        return (float(rope["factor"]),) * (head_dim // 2)
    if kind != "llama3":
        raise ArtifactError(f"rotary scaling {kind!r} is not supported")
    return tuple(_llama3_factor(rope, head_dim, pair) for pair in range(head_dim // 2))


def _llama3_factor(rope: Mapping[str, Any], head_dim: int, pair: int) -> float:
    """Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those in between interpolated."""
    wave = 2 * math.pi * rope["rope_theta"] ** (2 * pair / head_dim)
    low, high, original = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    if wave < original / high:
        return 1.0
    if wave > original / low:
        return float(rope["factor"])
    smooth = (original / wave - low) / (high - low)
    return float(1 / ((1 - smooth) / rope["factor"] + smooth))


def _pattern(text: Mapping[str, Any], default: int) -> int:
    kinds = text.get("layer_types")
    if not kinds:
        return int(text.get("sliding_window_pattern") or text.get("_sliding_window_pattern") or default)
    period = kinds.index("full_attention") + 1 if "full_attention" in kinds else len(kinds) + 1
    for layer, kind in enumerate(kinds):
        if (kind == "full_attention") != ((layer + 1) % period == 0):
            raise ArtifactError("layer_types is not supported: local and global layers must alternate regularly")
    return period
