"""Writes a model as a Hugging Face folder for other runtimes' tools: weights in float32, values unchanged."""

import json
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType
from gguf.quants import dequantize
from safetensors.numpy import save_file

from coe.experts.config import ModelConfig
from coe.experts.source import ModelSource, SourceTensor
from coe.platform.errors import Unavailable

_TOP = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def write_hf_folder(source: ModelSource, folder: Path) -> None:
    """Writes config.json, model.safetensors and the tokenizer. Raises Unavailable if it is not a plain Llama."""
    config = source.config
    if config.architecture != "llama" or config.rope_factors:
        raise Unavailable(f"{config.architecture} is not written as a Hugging Face folder")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = source.tokenizer()
    _write(folder / "config.json", hf_config(config, tokenizer.bos_id, tokenizer.eos_ids))
    (folder / "tokenizer.json").write_text(tokenizer.json)
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"})
    tensors = {hf_name(tensor.name): _float32(source, tensor) for tensor in source.tensors.values()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def hf_config(config: ModelConfig, bos: int | None, eos: tuple[int, ...]) -> dict[str, object]:
    """The config.json of a Llama."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "num_hidden_layers": config.layers,
        "hidden_size": config.hidden,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_dim,
        "intermediate_size": config.feed_forward,
        "vocab_size": config.vocabulary,
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_theta,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": config.tied,
        "bos_token_id": bos,
        "eos_token_id": list(eos),
        "torch_dtype": "float32",
    }


def hf_name(name: str) -> str:
    """Translates a GGUF name: `blk.3.attn_q.weight` is `model.layers.3.self_attn.q_proj.weight`."""
    stem, _, leaf = name.rpartition(".")
    if stem in _TOP:
        return f"{_TOP[stem]}.{leaf}"
    _, layer, kind = stem.split(".")
    return f"model.layers.{layer}.{_BLOCK[kind]}.{leaf}"


def _float32(source: ModelSource, tensor: SourceTensor) -> np.ndarray:
    raw = source.read_rows(tensor, 0, tensor.rows)
    values = dequantize(np.ascontiguousarray(raw), GGMLQuantizationType[tensor.format.upper()])
    values = np.asarray(values, np.float32).reshape(tensor.rows, tensor.cols)
    return values[0] if tensor.rows == 1 else values


def _write(path: Path, document: dict[str, object]) -> None:
    path.write_text(json.dumps(document, indent=2))
