"""A GGUF model as a ModelSource."""

from pathlib import Path
from typing import Self

import numpy as np

from coe.experts.fingerprint import fingerprint
from coe.experts.gguf_config import read_config
from coe.experts.gguf_file import GgufTensor
from coe.experts.gguf_model import GgufModel
from coe.experts.gguf_tokenizer import caution, read_tokenizer
from coe.experts.source import ModelCard, SourceTensor, TokenizerSpec
from coe.platform.errors import ArtifactError

FORMATS = ("f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "q4_k", "q5_k", "q6_k")
ROPE_FACTORS = "rope_freqs.weight"


class GgufSource:
    """Rows of Llama's q and k are reordered from the file's interleaved rotary order into halves."""

    def __init__(self, model: GgufModel) -> None:
        self._model = model
        self.path = model.path
        self.config = read_config(model, self._rope_factors())
        self.tensors = {name: _described(tensor) for name, tensor in model.tensors.items() if name != ROPE_FACTORS}
        self.card = ModelCard(
            name=self._text("general.name") or model.name,
            licence=self._text("general.license"),
            description=self._text("general.description"),
            fingerprint=_fingerprint(model),
            parameters=sum(tensor.rows * tensor.cols for tensor in self.tensors.values()),
            caution=caution(model.metadata),
        )

    @classmethod
    def open(cls, path: Path) -> Self:
        """`path` may be any part of a model in parts."""
        model = GgufModel.open(path)
        try:
            return cls(model)
        except BaseException:
            model.close()
            raise

    def tokenizer(self) -> TokenizerSpec:
        return read_tokenizer(self._model.metadata)

    def read_rows(self, tensor: SourceTensor, start: int, stop: int) -> np.ndarray:
        stored = self._model.tensors[tensor.name]
        if not self._is_interleaved(tensor.name):
            return self._model.read_rows(stored, start, stop)
        head = self.config.head_dim
        first, last = start // head * head, -(-stop // head) * head
        rows = self._model.read_rows(stored, first, min(last, stored.rows))
        halves = rows.reshape(-1, head // 2, 2, stored.row_bytes).swapaxes(1, 2).reshape(rows.shape)
        return halves[start - first : stop - first]

    def close(self) -> None:
        self._model.close()

    def _is_interleaved(self, name: str) -> bool:
        kind = name.rsplit(".", 2)[-2]
        return self.config.architecture == "llama" and kind in ("attn_q", "attn_k")

    def _rope_factors(self) -> tuple[float, ...]:
        tensor = self._model.tensors.get(ROPE_FACTORS)
        if tensor is None:
            return ()
        if tensor.kind != "f32" or tensor.nbytes > 1 << 16:
            raise ArtifactError(f"{ROPE_FACTORS} is not a small float32 vector")
        return tuple(self._model.read_rows(tensor, 0, tensor.rows).view(np.float32).ravel().tolist())

    def _text(self, key: str) -> str:
        value = self._model.metadata.get(key, "")
        return value if isinstance(value, str) else ""


def _described(tensor: GgufTensor) -> SourceTensor:
    if tensor.kind not in FORMATS:
        raise ArtifactError(f"{tensor.name} is {tensor.kind}, which is not supported (supported: {', '.join(FORMATS)})")
    return SourceTensor(tensor.name, tensor.kind, tensor.rows, tensor.cols)


def _fingerprint(model: GgufModel) -> str:
    facts = f"{model.nbytes} {list(model.tensors.values())}"
    return fingerprint(
        facts,
        (
            (tensor.name, tensor.rows, lambda row, tensor=tensor: model.read_rows(tensor, row, row + 1))  # type: ignore[misc]
            for tensor in model.tensors.values()
        ),
    )
