"""The layout of tensors in weights.coe: in execution order, fused where their formats allow it, page-aligned."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from coe.experts.config import ModelConfig
from coe.experts.manifest import PlacedTensor
from coe.experts.source import SourceTensor
from coe.native.packing import PANEL
from coe.platform.errors import ArtifactError

ALIGNMENT = 4096


@dataclass(frozen=True)
class PlannedTensor:
    """A tensor of the bundle: the concatenated rows of its sources, or one float32 vector (never packed)."""

    name: str
    format: str
    sources: tuple[SourceTensor, ...]
    is_vector: bool = False

    @property
    def rows(self) -> int:
        return 1 if self.is_vector else sum(source.rows for source in self.sources)

    @property
    def cols(self) -> int:
        return sum(source.cols for source in self.sources) if self.is_vector else self.sources[0].cols


# (canonical name, rows, cols) -> the tensor of the source.
Find = Callable[[str, int, int], SourceTensor]


def plan_tensors(config: ModelConfig, tensors: Mapping[str, SourceTensor]) -> list[PlannedTensor]:
    """Every tensor of the expert in execution order. Raises ArtifactError when one is missing or has the wrong shape,
    or when the model has a bias or a block tensor that no op would use."""
    used: set[str] = set()

    def find(name: str, rows: int, cols: int) -> SourceTensor:
        tensor = tensors.get(name)
        if tensor is None:
            raise ArtifactError(f"the model has no tensor {name}")
        if (tensor.rows, tensor.cols) != (rows, cols):
            raise ArtifactError(f"{name} is {tensor.rows} x {tensor.cols}, expected {rows} x {cols}")
        used.add(name)
        return tensor

    planned = list(_Planner(config, find).plan())
    for unused in (name for name in tensors if name not in used):
        if unused.endswith(".bias"):
            raise ArtifactError(f"the model has {unused}: only biases of query, key and value are supported")
        if unused.startswith("blk."):
            raise ArtifactError(f"the model has {unused}, which its architecture does not use")
    return planned


def plan_without_weights(config: ModelConfig, format_of: Callable[[int], str]) -> list[PlannedTensor]:
    """The tensors that an expert of this shape would have. `format_of` gives a matrix's format from its columns."""

    def find(name: str, rows: int, cols: int) -> SourceTensor:
        is_vector = name.endswith((".bias", "norm.weight"))
        return SourceTensor(name, "f32" if is_vector else format_of(cols), rows, cols)

    return list(_Planner(config, find).plan())


def place(planned: list[PlannedTensor], packed_nbytes: Callable[[str, int, int], int]) -> dict[str, PlacedTensor]:
    """Assigns offsets in weights.coe. `packed_nbytes(format, rows, cols)` is coe.native.packing's."""
    placed: dict[str, PlacedTensor] = {}
    end = 0
    for tensor in planned:
        offset = -(-end // ALIGNMENT) * ALIGNMENT
        nbytes = 4 * tensor.cols if tensor.is_vector else packed_nbytes(tensor.format, tensor.rows, tensor.cols)
        placed[tensor.name] = PlacedTensor(
            offset=offset, nbytes=nbytes, format=tensor.format, rows=tensor.rows, cols=tensor.cols
        )
        end = offset + nbytes
    return placed


class _Planner:
    def __init__(self, config: ModelConfig, find: Find) -> None:
        self._config = config
        self._find = find

    def plan(self) -> Iterator[PlannedTensor]:
        config = self._config
        embedding = self._matrix("embedding", "token_embd", config.vocabulary, config.hidden)
        yield self._head(embedding) if config.tied else embedding
        for layer in range(config.layers):
            yield from self._layer(layer)
        yield self._vector("final_norm", "output_norm.weight", config.hidden)
        if not config.tied:
            yield self._head(self._matrix("lm_head", "output", config.vocabulary, config.hidden))

    def _layer(self, layer: int) -> Iterator[PlannedTensor]:
        config, block, name = self._config, f"blk.{layer}", f"layer.{layer}"
        hidden = config.hidden
        rows = {"q": config.query_rows, "k": config.kv_rows, "v": config.kv_rows}
        yield self._vector(f"{name}.attention_norm", f"{block}.attn_norm.weight", hidden)
        parts = {part: self._matrix(f"{name}.{part}", f"{block}.attn_{part}", rows[part], hidden) for part in rows}
        yield from _fused(f"{name}.qkv", parts)
        if config.qkv_bias:
            biases = [self._float32(f"{block}.attn_{part}.bias", rows[part]) for part in rows]
            yield PlannedTensor(f"{name}.qkv_bias", "f32", tuple(biases), is_vector=True)
        if config.qk_norm:
            yield self._vector(f"{name}.q_norm", f"{block}.attn_q_norm.weight", config.head_dim)
            yield self._vector(f"{name}.k_norm", f"{block}.attn_k_norm.weight", config.head_dim)
        yield self._matrix(f"{name}.attention_output", f"{block}.attn_output", hidden, config.query_rows)
        if config.post_norms:
            yield self._vector(f"{name}.post_attention_norm", f"{block}.post_attention_norm.weight", hidden)
        yield self._vector(f"{name}.feed_forward_norm", f"{block}.ffn_norm.weight", hidden)
        gates = {
            part: self._matrix(f"{name}.{part}", f"{block}.ffn_{part}", config.feed_forward, hidden)
            for part in ("gate", "up")
        }
        if config.feed_forward % PANEL:  # fused, gate and up would share a panel
            yield from gates.values()
        else:
            yield from _fused(f"{name}.gate_up", gates)
        yield self._matrix(f"{name}.down", f"{block}.ffn_down", hidden, config.feed_forward)
        if config.post_norms:
            yield self._vector(f"{name}.post_feed_forward_norm", f"{block}.post_ffw_norm.weight", hidden)

    def _matrix(self, name: str, source: str, rows: int, cols: int) -> PlannedTensor:
        tensor = self._find(f"{source}.weight", rows, cols)
        return PlannedTensor(name, tensor.format, (tensor,))

    def _head(self, matrix: PlannedTensor) -> PlannedTensor:
        """Stored in planes where that speeds up greedy decoding (ADR 14): 8-bit quants without a logit softcap."""
        if matrix.format != "q8_0" or self._config.logit_softcap:
            return matrix
        return replace(matrix, format="q8_0_planes")

    def _vector(self, name: str, source: str, cols: int) -> PlannedTensor:
        return PlannedTensor(name, "f32", (self._float32(source, cols),), is_vector=True)

    def _float32(self, name: str, cols: int) -> SourceTensor:
        tensor = self._find(name, 1, cols)
        if tensor.format != "f32":
            raise ArtifactError(f"{name} is {tensor.format}, expected f32")
        return tensor


def _fused(name: str, parts: dict[str, PlannedTensor]) -> Iterator[PlannedTensor]:
    """One tensor if all parts have the same format, else the parts: mixed quantisations often keep v in more bits."""
    formats = {part.format for part in parts.values()}
    if len(formats) == 1:
        yield PlannedTensor(name, formats.pop(), tuple(part.sources[0] for part in parts.values()))
    else:
        yield from parts.values()
