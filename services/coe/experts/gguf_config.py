"""ModelConfig from GGUF metadata."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from coe.experts.config import MAX_HEAD_DIM, ModelConfig
from coe.experts.gguf_file import Value
from coe.experts.gguf_model import GgufModel
from coe.experts.invalid import first_problem
from coe.platform.errors import ArtifactError

SUPPORTED = ("llama", "qwen2", "qwen3", "gemma2", "gemma3")
# Layers of the largest Gemma 2 and 3, which scale queries by hidden / heads instead of head_dim.
GEMMA_27B_LAYERS = {"gemma2": 46, "gemma3": 62}
# Gemma 3's local rotary base, which its GGUF files may omit.
GEMMA3_LOCAL_THETA = 10_000.0
GEMMA3_PATTERN = 6
# Window, attention cap and logit cap for files that omit them, as the first Gemma 2 files did.
GEMMA_DEFAULTS = {"gemma2": (4096, 50.0, 30.0), "gemma3": (0, 0.0, 0.0)}


def read_config(model: GgufModel, rope_factors: tuple[float, ...] = ()) -> ModelConfig:
    """`rope_factors`: the content of `rope_freqs.weight` if the file has that tensor."""
    metadata = model.metadata
    architecture = metadata.get("general.architecture")
    if architecture not in SUPPORTED:
        raise ArtifactError(f"architecture {architecture!r} is not supported (supported: {', '.join(SUPPORTED)})")
    if metadata.get("general.type") == "adapter":
        raise ArtifactError("the file is an adapter: merge it into its base model first")
    keys = _Keys(metadata, str(architecture))
    if keys.integer("expert_count", 0):
        raise ArtifactError("mixture-of-experts models are not supported")
    heads, hidden = keys.integer("attention.head_count"), keys.integer("embedding_length")
    if heads < 1 or hidden < 1:
        raise ArtifactError("the model has no attention heads or no hidden dimensions")
    head_dim = keys.integer("attention.key_length", hidden // heads)
    if keys.integer("attention.value_length", head_dim) != head_dim:
        raise ArtifactError("keys and values of different widths are not supported")
    embedding = model.tensors.get("token_embd.weight")
    if embedding is None:
        raise ArtifactError("the file has no token_embd.weight")
    rope_dim = keys.integer("rope.dimension_count", head_dim)
    if not 1 <= head_dim <= MAX_HEAD_DIM or rope_dim > head_dim:
        raise ArtifactError(
            f"heads of {head_dim} dimensions, {rope_dim} of them rotary, are not supported (at most {MAX_HEAD_DIM})"
        )
    values: dict[str, Any] = {
        "architecture": architecture,
        "layers": keys.integer("block_count"),
        "hidden": hidden,
        "heads": heads,
        "kv_heads": keys.integer("attention.head_count_kv", heads),
        "head_dim": head_dim,
        "feed_forward": keys.integer("feed_forward_length"),
        "vocabulary": embedding.rows,
        "context_length": keys.integer("context_length"),
        "norm_epsilon": keys.number("attention.layer_norm_rms_epsilon"),
        "rope_theta": keys.number("rope.freq_base", 10_000.0),
        "rope_dim": rope_dim,
        "rope_factors": rope_factors or _linear_factors(keys, rope_dim),
        "attention_scale": head_dim**-0.5,
        "tied": "output.weight" not in model.tensors,
        "qkv_bias": "blk.0.attn_q.bias" in model.tensors,
        "qk_norm": architecture in ("qwen3", "gemma3"),
    }
    if architecture == "llama" and (rope_dim != head_dim or values["qkv_bias"]):
        raise ArtifactError("Llama files with partial rotary embeddings or attention biases are not supported")
    if architecture in GEMMA_27B_LAYERS:
        values |= _gemma(keys, str(architecture), values)
    try:
        return ModelConfig(**values)
    except ValidationError as error:
        raise ArtifactError(f"the model's configuration is invalid: {first_problem(error)}") from error


def _gemma(keys: "_Keys", architecture: str, values: Mapping[str, Any]) -> dict[str, Any]:
    window, attention_softcap, logit_softcap = GEMMA_DEFAULTS[architecture]
    switches: dict[str, Any] = {
        "activation": "gelu",
        "post_norms": True,
        "embedding_scale": values["hidden"] ** 0.5,
        "window": keys.integer("attention.sliding_window", window),
        "attention_softcap": keys.number("attn_logit_softcapping", attention_softcap),
        "logit_softcap": keys.number("final_logit_softcapping", logit_softcap),
    }
    if values["layers"] == GEMMA_27B_LAYERS[architecture]:
        switches["attention_scale"] = (values["hidden"] / values["heads"]) ** -0.5
    if architecture == "gemma2":
        return switches | {"window_pattern": 2}
    return switches | {
        "window_pattern": GEMMA3_PATTERN,
        "local_rope_theta": keys.number("rope.freq_base_swa", GEMMA3_LOCAL_THETA),
    }


def _linear_factors(keys: "_Keys", rope_dim: int) -> tuple[float, ...]:
    kind = keys.metadata.get(f"{keys.architecture}.rope.scaling.type", "none")
    if kind == "none":
        return ()
    if kind != "linear":
        raise ArtifactError(f"rotary scaling {kind!r} is not supported")
    factor = keys.number("rope.scaling.factor", 1.0)
    return () if factor in (0.0, 1.0) else (factor,) * (rope_dim // 2)


class _Keys:
    def __init__(self, metadata: Mapping[str, Value], architecture: str) -> None:
        self.metadata = metadata
        self.architecture = architecture

    def integer(self, key: str, default: int | None = None) -> int:
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]
        if not isinstance(value, int):
            raise ArtifactError(f"metadata {self.architecture}.{key} is missing or not an integer")
        return value

    def number(self, key: str, default: float | None = None) -> float:
        value = self.metadata.get(f"{self.architecture}.{key}", default)
        if not isinstance(value, int | float):
            raise ArtifactError(f"metadata {self.architecture}.{key} is missing or not a number")
        return float(value)
