"""Small Hugging Face folders: the tensors of a tiny GGUF file under their other names."""

import json
from pathlib import Path

import numpy as np
from gguf import GGUFReader, dequantize
from safetensors.numpy import save_file

from coe.experts.gguf_source import GgufSource
from support.gguf_files import TinyModel

_BLOCK = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_NORMS = {"ffn_norm": "post_attention_layernorm"}
_GEMMA_NORMS = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}


def write_hf_folder(folder: Path, gguf: Path, model: TinyModel) -> Path:
    """The same model as `gguf`, which must be all float32: q and k of Llama in halves, Gemma's norms less one."""
    folder.mkdir()
    gemma = model.family.startswith("gemma")
    tensors = {}
    for tensor in GGUFReader(gguf).tensors:
        values = np.array(dequantize(tensor.data, tensor.tensor_type))
        if model.family == "llama" and ("attn_q." in tensor.name or "attn_k." in tensor.name):
            shape = (-1, model.head_dim // 2, 2, values.shape[-1])
            values = np.ascontiguousarray(values.reshape(shape).swapaxes(1, 2)).reshape(values.shape)
        if gemma and tensor.name.endswith("norm.weight"):
            values = values - 1
        tensors[_name(tensor.name, gemma)] = values
    names = sorted(tensors)
    shard_of = {name: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, name in enumerate(names)}
    for shard in set(shard_of.values()):
        save_file({name: tensors[name] for name in names if shard_of[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))
    (folder / "config.json").write_text(json.dumps(_config(model, len(tensors["model.embed_tokens.weight"]))))
    source = GgufSource.open(gguf)
    spec = source.tokenizer()
    source.close()
    (folder / "tokenizer.json").write_text(spec.json)
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"eos_token": "<|im_end|>", "bos_token": None, "chat_template": spec.chat_template})
    )
    return folder


def _name(name: str, gemma: bool) -> str:
    top = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight"}
    if name in top:
        return top[name]
    if name == "output.weight":
        return "lm_head.weight"
    _, layer, kind, leaf = name.split(".")
    return f"model.layers.{layer}.{({**_BLOCK, **(_GEMMA_NORMS if gemma else _NORMS)})[kind]}.{leaf}"


def _config(model: TinyModel, vocabulary: int) -> dict[str, object]:
    config: dict[str, object] = {
        "model_type": "gemma3_text" if model.family == "gemma3" else model.family,
        "num_hidden_layers": model.layers,
        "hidden_size": model.hidden,
        "num_attention_heads": model.heads,
        "num_key_value_heads": model.kv_heads,
        "head_dim": model.head_dim,
        "intermediate_size": model.feed_forward,
        "vocab_size": vocabulary,
        "max_position_embeddings": model.context,
        "rms_norm_eps": 1e-6,
        "rope_theta": 500_000.0,
        "tie_word_embeddings": model.tied,
    }
    if model.family.startswith("gemma"):
        config |= {"sliding_window": model.window, "query_pre_attn_scalar": model.head_dim}
    if model.family == "gemma2":
        config |= {"attn_logit_softcapping": 5.0, "final_logit_softcapping": 3.0}
    return config
