"""An independent decoder in plain numpy, from the models' papers, over a GGUF file read by the `gguf` package.

It shares no code with the product: weights are dequantised by `gguf` itself, rotary positions follow the file's own
order (interleaved for Llama, halves for the others), attention is the full masked matrix, nothing is cached.
"""

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFReader, dequantize
from threadpoolctl import threadpool_limits

GEMMA3_LOCAL_THETA, GEMMA3_PATTERN = 10_000.0, 6
# The largest of their families scale queries by the model's width a head, and are known by their layers.
GEMMA_27B = (("gemma2", 46), ("gemma3", 62))


class NumpyLlm:
    """`logits(ids)` -> float32 [len(ids), V]."""

    def __init__(self, path: Path) -> None:
        reader = GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in reader.tensors}
        self._weights: dict[str, np.ndarray] = {}
        self._fields = reader.fields
        self.family = self._field("general.architecture")
        self.gemma = self.family.startswith("gemma")
        self.layers = self._own("block_count")
        self.hidden = self._own("embedding_length")
        self.heads = self._own("attention.head_count")
        self.kv_heads = self._own("attention.head_count_kv")
        self.head_dim = self._own("attention.key_length", self.hidden // self.heads)
        self.epsilon = self._own("attention.layer_norm_rms_epsilon")

    def logits(self, ids: list[int]) -> np.ndarray:
        # Two BLAS threads wait for each other more than they work when the machine is busy.
        with threadpool_limits(1):
            return self._logits(ids)

    def _logits(self, ids: list[int]) -> np.ndarray:
        x = self._weight("token_embd.weight")[ids]
        if self.gemma:
            x = x * np.float32(self.hidden**0.5)
        for layer in range(self.layers):
            x = self._block(layer, x)
        x = self._norm(x, "output_norm.weight")
        head = "output.weight" if "output.weight" in self._tensors else "token_embd.weight"
        return self._cap(self._times(x, head.removesuffix(".weight")), self._own("final_logit_softcapping", 0.0))

    def _block(self, layer: int, x: np.ndarray) -> np.ndarray:
        name = f"blk.{layer}"
        attended = self._attention(layer, self._norm(x, f"{name}.attn_norm.weight"))
        attended = self._times(attended, f"{name}.attn_output")
        if self.gemma:
            attended = self._norm(attended, f"{name}.post_attention_norm.weight")
        x = x + attended
        y = self._norm(x, f"{name}.ffn_norm.weight")
        gate, up = self._times(y, f"{name}.ffn_gate"), self._times(y, f"{name}.ffn_up")
        fed = self._times(self._activation(gate) * up, f"{name}.ffn_down")
        if self.gemma:
            fed = self._norm(fed, f"{name}.post_ffw_norm.weight")
        return x + fed

    def _attention(self, layer: int, x: np.ndarray) -> np.ndarray:
        name, count = f"blk.{layer}", len(x)
        query = self._projected(f"{name}.attn_q", x, self.heads)
        key = self._projected(f"{name}.attn_k", x, self.kv_heads)
        value = self._projected(f"{name}.attn_v", x, self.kv_heads)
        if f"{name}.attn_q_norm.weight" in self._tensors:
            query = self._norm(query, f"{name}.attn_q_norm.weight")
            key = self._norm(key, f"{name}.attn_k_norm.weight")
        query, key = self._rotate(layer, query), self._rotate(layer, key)
        group = self.heads // self.kv_heads
        key, value = np.repeat(key, group, axis=1), np.repeat(value, group, axis=1)
        scores = query.transpose(1, 0, 2) @ key.transpose(1, 2, 0) * np.float32(self._scale())
        scores = self._cap(scores, self._own("attn_logit_softcapping", 0.0))
        ago = np.arange(count)[:, None] - np.arange(count)[None, :]
        visible = ago >= 0
        if self._is_local(layer):
            visible &= ago < self._own("attention.sliding_window")
        scores = np.where(visible, scores, -np.inf)
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        return (weights @ value.transpose(1, 0, 2)).transpose(1, 0, 2).reshape(count, -1)

    def _projected(self, name: str, x: np.ndarray, heads: int) -> np.ndarray:
        y = self._times(x, name)
        if f"{name}.bias" in self._tensors:
            y = y + self._weight(f"{name}.bias").ravel()
        return y.reshape(len(x), heads, self.head_dim)

    def _rotate(self, layer: int, x: np.ndarray) -> np.ndarray:
        half = self.head_dim // 2
        theta = self._own("rope.freq_base", 10_000.0)
        local = self.family == "gemma3" and self._is_local(layer)
        frequencies = (GEMMA3_LOCAL_THETA if local else theta) ** (-np.arange(half) / half)
        if "rope_freqs.weight" in self._tensors:
            frequencies = frequencies / self._weight("rope_freqs.weight").ravel()
        if not local and self._own("rope.scaling.type", "none") == "linear":
            frequencies = frequencies / self._own("rope.scaling.factor")
        angles = np.arange(len(x))[:, None, None] * frequencies
        cos, sin = np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)
        if self.family == "llama":
            one, two = x[..., 0::2], x[..., 1::2]
            return np.stack([one * cos - two * sin, one * sin + two * cos], axis=-1).reshape(x.shape)
        one, two = x[..., :half], x[..., half:]
        return np.concatenate([one * cos - two * sin, one * sin + two * cos], axis=-1)

    def _is_local(self, layer: int) -> bool:
        if self.family == "gemma2":
            return layer % 2 == 0
        return self.family == "gemma3" and layer % GEMMA3_PATTERN != GEMMA3_PATTERN - 1

    def _scale(self) -> float:
        if (self.family, self.layers) in GEMMA_27B:
            return float((self.hidden / self.heads) ** -0.5)
        return float(self.head_dim**-0.5)

    def _activation(self, x: np.ndarray) -> np.ndarray:
        if self.gemma:
            return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi).astype(np.float32) * (x + 0.044715 * x**3)))
        return x / (1 + np.exp(-x))

    def _cap(self, x: np.ndarray, cap: float) -> np.ndarray:
        return np.tanh(x / np.float32(cap)) * np.float32(cap) if cap else x

    def _norm(self, x: np.ndarray, name: str) -> np.ndarray:
        scale = 1 / np.sqrt((x**2).mean(axis=-1, keepdims=True) + self.epsilon)
        return x * scale * self._weight(name).ravel()

    def _times(self, x: np.ndarray, name: str) -> np.ndarray:
        return x @ self._weight(f"{name}.weight").T

    def _weight(self, name: str) -> np.ndarray:
        if name not in self._weights:
            tensor = self._tensors[name]
            self._weights[name] = np.ascontiguousarray(dequantize(tensor.data, tensor.tensor_type), np.float32)
        return self._weights[name]

    def _own(self, key: str, default: Any = None) -> Any:
        return self._field(f"{self.family}.{key}", default)

    def _field(self, key: str, default: Any = None) -> Any:
        field = self._fields.get(key)
        return default if field is None else field.contents()
