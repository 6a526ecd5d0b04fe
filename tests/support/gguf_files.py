"""Small GGUF files of true architectures with random weights, written with the `gguf` package."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, RopeScalingType, quantize

Q = GGMLQuantizationType


@dataclass(frozen=True)
class TinyModel:
    """Dimensions are small, but blocks of 32 (or 256 for the K formats) still fit their columns."""

    family: str = "llama"
    layers: int = 2
    hidden: int = 64
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 16
    feed_forward: int = 96
    context: int = 256
    kind: Q = Q.Q8_0
    # Formats of single tensors, by the end of their name.
    kinds: dict[str, Q] = field(default_factory=dict)
    tied: bool = True
    window: int = 8
    rope_factors: bool = False
    # Linear scaling of the rotary frequencies; 0: none.
    rope_scale: float = 0.0
    seed: int = 0
    # How words are cut; empty: the file does not say.
    pre: str = "smollm"


LETTERS = [chr(code) for code in (*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324))]
TOKENS = [*LETTERS, "<|im_start|>", "<|im_end|>", "he", "ll", "hell"]
MERGES = ["h e", "l l", "he ll"]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def write_tiny_gguf(path: Path, model: TinyModel, *, tensors_per_part: int = 0) -> Path:
    """Writes `path`, or with `tensors_per_part` its parts, and returns the first file."""
    writer = GGUFWriter(path, model.family, split_max_tensors=tensors_per_part)
    write_metadata(writer, model)
    write_vocabulary(writer, model.pre)
    for name, weights, is_vector in _weights(model):
        kind = Q.F32 if is_vector else _kind(model, name)
        blocks = k_blocks(weights, kind, model.seed) if kind in K_BLOCKS else quantize(weights, kind)
        writer.add_tensor(name, blocks, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path if path.exists() else min(path.parent.glob(f"{path.stem}-*.gguf"))


# Bytes of a block of 256 columns, where its float16 scale and minimum lie, and what random quants are in units of the
# scale: their spread, and the minimum that puts their middle at zero.
K_BLOCKS = {Q.Q4_K: (144, 0, 2, 258, 7.5), Q.Q5_K: (176, 0, 2, 530, 15.5), Q.Q6_K: (210, 208, None, 1370, 0)}


def k_blocks(values: np.ndarray, kind: Q, seed: int) -> np.ndarray:
    """Random blocks that mean values of the same spread: the `gguf` package reads these formats, but writes none."""
    size, scale_at, minimum_at, spread, middle = K_BLOCKS[kind]
    rows, cols = values.shape
    blocks = np.random.default_rng((seed, rows, cols)).integers(0, 256, (rows, cols // 256, size), np.uint8)
    scale = np.float16(values.std() / spread)
    blocks[..., scale_at : scale_at + 2] = np.frombuffer(scale.tobytes(), np.uint8)
    if minimum_at is not None:
        minimum = np.float16(scale * middle)
        blocks[..., minimum_at : minimum_at + 2] = np.frombuffer(minimum.tobytes(), np.uint8)
    return blocks.reshape(rows, -1)


def _kind(model: TinyModel, name: str) -> Q:
    return next((kind for end, kind in model.kinds.items() if name.endswith(end)), model.kind)


def write_metadata(writer: GGUFWriter, model: TinyModel) -> None:
    writer.add_name(f"Tiny {model.family} 1M")
    writer.add_license("apache-2.0")
    writer.add_block_count(model.layers)
    writer.add_context_length(model.context)
    writer.add_embedding_length(model.hidden)
    writer.add_feed_forward_length(model.feed_forward)
    writer.add_head_count(model.heads)
    writer.add_head_count_kv(model.kv_heads)
    writer.add_key_length(model.head_dim)
    writer.add_value_length(model.head_dim)
    writer.add_rope_dimension_count(model.head_dim)
    writer.add_rope_freq_base(500_000.0)
    writer.add_layer_norm_rms_eps(1e-6)
    if model.rope_scale:
        writer.add_rope_scaling_type(RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(model.rope_scale)
    if model.family.startswith("gemma"):
        writer.add_sliding_window(model.window)
    if model.family == "gemma2":
        writer.add_attn_logit_softcapping(5.0)
        writer.add_final_logit_softcapping(3.0)


def write_vocabulary(writer: GGUFWriter, pre: str = "smollm") -> None:
    writer.add_tokenizer_model("gpt2")
    if pre:
        writer.add_tokenizer_pre(pre)
    writer.add_token_list(TOKENS)
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in TOKENS])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(TOKENS.index("<|im_start|>"))
    writer.add_eos_token_id(TOKENS.index("<|im_end|>"))
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)


def _weights(model: TinyModel) -> list[tuple[str, np.ndarray, bool]]:
    """(name, values, is a vector). Vectors stay float32."""
    draw = np.random.default_rng(model.seed)
    tensors: list[tuple[str, np.ndarray, bool]] = []

    def matrix(name: str, rows: int, cols: int, spread: float = 1.0) -> None:
        values = draw.standard_normal((rows, cols), np.float32) * np.float32(spread / cols**0.5)
        tensors.append((f"{name}.weight", values, False))

    def norm(name: str, size: int) -> None:
        tensors.append((f"{name}.weight", 1 + 0.3 * draw.standard_normal(size, np.float32), True))

    queries, keys = model.heads * model.head_dim, model.kv_heads * model.head_dim
    matrix("token_embd", len(TOKENS), model.hidden, spread=8.0)
    if model.rope_factors:
        tensors.append(("rope_freqs.weight", draw.uniform(1, 8, model.head_dim // 2).astype(np.float32), True))
    for layer in range(model.layers):
        name = f"blk.{layer}"
        norm(f"{name}.attn_norm", model.hidden)
        for part, rows in (("q", queries), ("k", keys), ("v", keys)):
            matrix(f"{name}.attn_{part}", rows, model.hidden, spread=2.0)
            if model.family == "qwen2":
                tensors.append((f"{name}.attn_{part}.bias", draw.standard_normal(rows, np.float32), True))
        if model.family in ("qwen3", "gemma3"):
            norm(f"{name}.attn_q_norm", model.head_dim)
            norm(f"{name}.attn_k_norm", model.head_dim)
        matrix(f"{name}.attn_output", model.hidden, queries)
        norm(f"{name}.ffn_norm", model.hidden)
        matrix(f"{name}.ffn_gate", model.feed_forward, model.hidden)
        matrix(f"{name}.ffn_up", model.feed_forward, model.hidden)
        matrix(f"{name}.ffn_down", model.hidden, model.feed_forward)
        if model.family.startswith("gemma"):
            norm(f"{name}.post_attention_norm", model.hidden)
            norm(f"{name}.post_ffw_norm", model.hidden)
    norm("output_norm", model.hidden)
    if not model.tied:
        matrix("output", len(TOKENS), model.hidden, spread=2.0)
    return tensors
