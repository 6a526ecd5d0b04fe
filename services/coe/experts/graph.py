"""The weightless ONNX graph of a layout: ops of domain `ai.coe.tiered` read each weight at its offset."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import groupby

import onnx
from onnx import TensorProto, helper

from coe.experts.activation_bits import ActivationBits
from coe.experts.config import ModelConfig
from coe.experts.kv_format import KvFormat, row_elements
from coe.experts.manifest import PlacedTensor
from coe.platform.errors import ArtifactError

DOMAIN = "ai.coe.tiered"
KV_BLOCK_TOKENS = 16
# The most a constant of the graph may hold: room for shapes, not for weights.
MAX_INITIALISER_BYTES = 1024
ONNX_OPSET = 21
IR_VERSION = 10

_KV_TYPES = {"f32": TensorProto.FLOAT, "f16": TensorProto.FLOAT16, "i8": TensorProto.INT8}

Attributes = dict[str, object]
# Attribute prefixes of a layer's linears that differ from their tensors' names: `q_norm_offset` belongs to attention.
_LONG_NAMES = {"q": "query", "k": "key", "v": "value"}
# Inputs of attention nodes besides their activations.
STEP = ("positions", "sequence_ids", "block_table", "kv")

INPUTS = {
    "expert_slot": (TensorProto.INT64, [1]),
    "token_ids": (TensorProto.INT64, ["tokens"]),
    "positions": (TensorProto.INT64, ["tokens"]),
    "sequence_ids": (TensorProto.INT64, ["tokens"]),
    "block_table": (TensorProto.INT64, ["sequences", "blocks_per_sequence"]),
    "logit_rows": (TensorProto.INT64, ["rows"]),
    "greedy_rows": (TensorProto.INT64, ["greedy"]),
}


def build_graph(
    config: ModelConfig,
    tensors: Mapping[str, PlacedTensor],
    kv_format: KvFormat = "f32",
    *,
    activation_bits: ActivationBits = 16,
    fused: bool = True,
) -> onnx.ModelProto:
    """A graph that computes one step of all sequences: prefill chunks and decode tokens, flattened. Consecutive layers
    are one node where their tensors allow it; with fused=False each part of a layer is a node, for profiling."""
    builder = _Builder(config, tensors, activation_bits, fused)
    builder.build()
    inputs = [helper.make_tensor_value_info(name, kind, shape) for name, (kind, shape) in INPUTS.items()]
    kv_shape = [config.layers, "blocks", 2, config.kv_heads, KV_BLOCK_TOKENS, row_elements(config, kv_format)]
    inputs.append(helper.make_tensor_value_info("kv", _KV_TYPES[kv_format], kv_shape))
    outputs = [
        helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", config.vocabulary]),
        helper.make_tensor_value_info("likeliest", TensorProto.INT64, ["greedy"]),
        helper.make_tensor_value_info("peaks", TensorProto.FLOAT, ["greedy"]),
    ]
    graph = helper.make_graph(builder.nodes, f"{config.architecture}-weightless", inputs, outputs)
    opsets = [helper.make_opsetid("", ONNX_OPSET), helper.make_opsetid(DOMAIN, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="coe")
    require_weightless(model)
    return model


def require_weightless(model: onnx.ModelProto) -> None:
    """Raises ArtifactError when the graph carries data that belongs in a bundle."""
    held = [len(initialiser.SerializeToString()) for initialiser in model.graph.initializer]
    for node in model.graph.node:
        held += [attribute.t.ByteSize() for attribute in node.attribute if attribute.HasField("t")]
    if any(size > MAX_INITIALISER_BYTES for size in held):
        raise ArtifactError("the graph holds weights")


@dataclass
class _Builder:
    config: ModelConfig
    tensors: Mapping[str, PlacedTensor]
    activation_bits: ActivationBits
    fused: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)

    def build(self) -> None:
        config = self.config
        hidden = self._tiered(
            "TieredEmbedding", "embedded", ["token_ids"], scale=config.embedding_scale, **self._matrix("embedding")
        )
        for whole, layers in groupby(range(config.layers), self._is_whole):
            if whole:
                hidden = self._whole_layers(list(layers), hidden)
            else:
                for layer in layers:
                    hidden = self._layer(layer, hidden)
        head = "embedding" if config.tied else "lm_head"
        attributes = {"softcap": config.logit_softcap} | self._normed("final_norm") | self._matrix(head)
        self._tiered("TieredLMHead", "logits", [hidden, "logit_rows"], **attributes)
        self._tiered("TieredGreedyHead", ("likeliest", "peaks"), [hidden, "greedy_rows"], **attributes)

    def _is_whole(self, layer: int) -> bool:
        """Whether the layer can be part of a fused node, whose gated activation needs gate and up in one tensor."""
        return self.fused and f"layer.{layer}.gate_up" in self.tensors

    def _whole_layers(self, layers: list[int], hidden: str) -> str:
        attributes: Attributes = {"count": len(layers)}
        for i, layer in enumerate(layers):
            attributes |= {f"{i}_{key}": value for key, value in self._whole_layer(layer).items()}
        return self._tiered("TieredLayers", f"layer.{layers[-1]}.out", [hidden, *STEP], **attributes)

    def _whole_layer(self, layer: int) -> Attributes:
        name = f"layer.{layer}"
        parts = self._qkv_parts(name)
        linears: dict[str, Attributes] = {
            **{part: self._normed(f"{name}.attention_norm") | {"bias_offset": bias} for part, bias in parts.items()},
            "attention_output": {},
            "gate_up": self._normed(f"{name}.feed_forward_norm") | {"activation": f"{self.config.activation}_gate"},
            "down": {},
        }
        attributes = self._attention_attributes(layer) | {"qkv_apart": int(len(parts) > 1)}
        for linear, options in linears.items():
            own = self._multiplied(f"{name}.{linear}") | options
            attributes |= {f"{_LONG_NAMES.get(linear, linear)}_{key}": value for key, value in own.items()}
        if self.config.post_norms:
            for norm in ("post_attention_norm", "post_feed_forward_norm"):
                attributes[f"{norm}_offset"] = self._offset(f"{name}.{norm}")
        return attributes

    def _layer(self, layer: int, hidden: str) -> str:
        name = f"layer.{layer}"
        attended = self._attention(layer, self._queries_keys_values(name, hidden))
        hidden = self._residual_linear(f"{name}.attention_output", attended, hidden, f"{name}.post_attention_norm")
        gated = self._gated(name, hidden)
        return self._residual_linear(f"{name}.down", gated, hidden, f"{name}.post_feed_forward_norm")

    def _queries_keys_values(self, name: str, hidden: str) -> str:
        norm = f"{name}.attention_norm"
        parts = self._qkv_parts(name)
        if "qkv" in parts:
            return self._linear(f"{name}.qkv", hidden, norm=norm, bias_offset=parts["qkv"])
        normed = self._norm(norm, hidden)
        outputs = [self._linear(f"{name}.{part}", normed, bias_offset=bias) for part, bias in parts.items()]
        return self._plain("Concat", f"{name}.qkv", outputs, axis=1)

    def _qkv_parts(self, name: str) -> dict[str, int]:
        """The bias offset of each matrix (-1: no bias): one fused matrix, or three if their formats differ."""
        bias = self._offset(f"{name}.qkv_bias") if self.config.qkv_bias else -1
        if f"{name}.qkv" in self.tensors:
            return {"qkv": bias}
        parts = {}
        for part in "qkv":
            parts[part] = bias
            bias += 4 * self.tensors[f"{name}.{part}"].rows if bias >= 0 else 0
        return parts

    def _attention(self, layer: int, qkv: str) -> str:
        return self._tiered(
            "PagedAttention", f"layer.{layer}.attended", [qkv, *STEP], **self._attention_attributes(layer)
        )

    def _attention_attributes(self, layer: int) -> Attributes:
        config, name = self.config, f"layer.{layer}"
        factors = config.layer_rope_factors(layer)
        return {
            "layer": layer,
            "num_heads": config.heads,
            "num_kv_heads": config.kv_heads,
            "head_dim": config.head_dim,
            "block_size": KV_BLOCK_TOKENS,
            "rope_theta": config.layer_rope_theta(layer),
            "rope_dim": config.rope_dim,
            "scale": config.attention_scale,
            "window": config.window if config.is_local(layer) else 0,
            "softcap": config.attention_softcap,
            "q_norm_offset": self._offset(f"{name}.q_norm") if config.qk_norm else -1,
            "k_norm_offset": self._offset(f"{name}.k_norm") if config.qk_norm else -1,
            "epsilon": config.norm_epsilon,
        } | ({"rope_factors": list(factors)} if factors else {})

    def _gated(self, name: str, hidden: str) -> str:
        norm = f"{name}.feed_forward_norm"
        if f"{name}.gate_up" in self.tensors:
            return self._linear(f"{name}.gate_up", hidden, norm=norm, activation=f"{self.config.activation}_gate")
        normed = self._norm(norm, hidden)
        gate = self._linear(f"{name}.gate", normed)
        up = self._linear(f"{name}.up", normed)
        if self.config.activation == "gelu":
            active = self._plain("Gelu", f"{name}.active", [gate], approximate="tanh")
        else:
            active = self._plain("Mul", f"{name}.active", [gate, self._plain("Sigmoid", f"{name}.sigmoid", [gate])])
        return self._plain("Mul", f"{name}.gated", [active, up])

    def _residual_linear(self, name: str, x: str, residual: str, post_norm: str) -> str:
        if not self.config.post_norms:
            return self._linear(name, x, residual=residual)
        return self._norm(post_norm, self._linear(name, x), residual)

    def _linear(
        self,
        name: str,
        x: str,
        *,
        residual: str = "",
        norm: str = "",
        bias_offset: int = -1,
        activation: str = "none",
    ) -> str:
        inputs = [x, residual] if residual else [x]
        fused = self._normed(norm) if norm else {}
        attributes = {**self._multiplied(name), **fused, "bias_offset": bias_offset, "activation": activation}
        return self._tiered("TieredLinear", f"{name}.out", inputs, **attributes)

    def _norm(self, name: str, x: str, residual: str = "") -> str:
        tensor = self.tensors[name]
        return self._tiered(
            "TieredRMSNorm",
            f"{name}.out",
            [x, residual] if residual else [x],
            offset=tensor.offset,
            cols=tensor.cols,
            epsilon=self.config.norm_epsilon,
        )

    def _multiplied(self, name: str) -> Attributes:
        """Attributes of a layer's matrix. The embedding and output matrices keep 16-bit activations: the likeliest
        token is taken from their result."""
        return self._matrix(name) | {"activation_bits": self.activation_bits}

    def _matrix(self, name: str) -> Attributes:
        tensor = self.tensors[name]
        return {"offset": tensor.offset, "format": tensor.format, "rows": tensor.rows, "cols": tensor.cols}

    def _normed(self, name: str) -> Attributes:
        return {"norm_offset": self._offset(name), "epsilon": self.config.norm_epsilon}

    def _offset(self, name: str) -> int:
        return self.tensors[name].offset

    def _tiered(self, kind: str, outputs: str | tuple[str, ...], inputs: list[str], **attributes: object) -> str:
        outputs = (outputs,) if isinstance(outputs, str) else outputs
        node = helper.make_node(kind, ["expert_slot", *inputs], outputs, outputs[0], domain=DOMAIN, **attributes)
        self.nodes.append(node)
        return outputs[0]

    def _plain(self, kind: str, output: str, inputs: list[str], **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], output, **attributes))
        return output
