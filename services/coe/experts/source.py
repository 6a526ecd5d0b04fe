"""The interface between the importer and the file formats of models."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from coe.experts.config import ModelConfig


@dataclass(frozen=True)
class SourceTensor:
    """A matrix of the source, under GGUF's canonical name. A vector has one row."""

    name: str
    format: str
    rows: int
    cols: int


@dataclass(frozen=True)
class ModelCard:
    """What the source says about the model, apart from its weights."""

    name: str
    licence: str
    description: str
    # Tells two sources apart when an import is resumed or repeated (coe.experts.fingerprint).
    fingerprint: str
    parameters: int
    # What may make the expert worse than the original model, and how to fix it.
    caution: str = ""


@dataclass(frozen=True)
class TokenizerSpec:
    """A tokenizer in the JSON form of the `tokenizers` library, and how conversations are formatted for it."""

    json: str
    chat_template: str
    bos_id: int | None
    add_bos: bool
    # Generation stops at any of these. The last one is what templates call `eos_token`.
    eos_ids: tuple[int, ...]


class ModelSource(Protocol):
    """Rows follow the graph's conventions: rotary halves (NeoX order), and Gemma norms with the 1 added."""

    @property
    def card(self) -> ModelCard: ...

    @property
    def config(self) -> ModelConfig: ...

    @property
    def tensors(self) -> Mapping[str, SourceTensor]: ...

    def tokenizer(self) -> TokenizerSpec: ...

    def read_rows(self, tensor: SourceTensor, start: int, stop: int) -> np.ndarray:
        """Rows [start, stop) as uint8 [stop - start, bytes per row] in the tensor's format."""

    def close(self) -> None: ...
