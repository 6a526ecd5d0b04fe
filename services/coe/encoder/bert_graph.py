"""Builds the ONNX graph of a BERT sentence encoder from its safetensors.

The graph is the published post-norm encoder (Devlin et al. 2018), followed by mean pooling over the attention mask and
L2 normalisation (Reimers and Gurevych 2019). It uses ONNX Runtime's fused BERT operators directly, so nothing depends
on the graph optimiser recognising a pattern. Weights are [out, in] in the safetensors and [in, out] in the graph.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Weights = Mapping[str, NDArray[np.float32]]

FUSED = "com.microsoft"
OPSET = 20
OUTPUT = "sentence_embedding"


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The dimensions that the graph needs, named as in a BERT `config.json`."""

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    layer_norm_eps: float

    @classmethod
    def parse(cls, config: Mapping[str, object]) -> "BertConfig":
        if config.get("model_type") != "bert" or config.get("hidden_act") != "gelu":
            raise ValueError("not a BERT with GELU activation")
        return cls(
            hidden_size=int(str(config["hidden_size"])),
            num_hidden_layers=int(str(config["num_hidden_layers"])),
            num_attention_heads=int(str(config["num_attention_heads"])),
            layer_norm_eps=float(str(config["layer_norm_eps"])),
        )


class _Graph:
    """Collects nodes and initialisers; every method returns the name of what it adds."""

    def __init__(self, config: BertConfig, weights: Weights) -> None:
        self._config = config
        self._weights = weights
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def node(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes: object) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def linear(self, prefix: str, x: str) -> str:
        """x W without the bias, which goes into the fused operator that follows."""
        weight = self.constant(f"{prefix}.weight", self._weights[f"{prefix}.weight"].T)
        return self.node("MatMul", [x, weight], f"{prefix}.matmul")

    def bias(self, prefix: str) -> str:
        return self.constant(f"{prefix}.bias", self._weights[f"{prefix}.bias"])

    def skip_norm(self, prefix: str, x: str, skip: str, bias: str) -> str:
        gamma = self.constant(f"{prefix}.weight", self._weights[f"{prefix}.weight"])
        inputs = [x, skip, gamma, self.bias(prefix), bias]
        epsilon = self._config.layer_norm_eps
        return self.node("SkipLayerNormalization", inputs, f"{prefix}.out", FUSED, epsilon=epsilon)

    def embeddings(self, input_ids: str) -> str:
        words = self.constant("words", self._weights["embeddings.word_embeddings.weight"])
        # There is only one segment, so its embedding is added to every position's.
        segment = self._weights["embeddings.token_type_embeddings.weight"][0]
        positions = self.constant("positions", self._weights["embeddings.position_embeddings.weight"] + segment)
        gamma = self.constant("embeddings.gamma", self._weights["embeddings.LayerNorm.weight"])
        beta = self.constant("embeddings.beta", self._weights["embeddings.LayerNorm.bias"])
        inputs = [input_ids, "", words, positions, "", gamma, beta]
        outputs = ["embedded", "embedded.mask_index"]
        epsilon = self._config.layer_norm_eps
        self.nodes.append(
            helper.make_node("EmbedLayerNormalization", inputs, outputs, name="embed", domain=FUSED, epsilon=epsilon)
        )
        return outputs[0]

    def layer(self, index: int, x: str, mask: str) -> str:
        prefix = f"encoder.layer.{index}"
        qkv = [f"{prefix}.attention.self.{part}" for part in ("query", "key", "value")]
        weight = np.concatenate([self._weights[f"{name}.weight"].T for name in qkv], axis=1)
        bias = np.concatenate([self._weights[f"{name}.bias"] for name in qkv])
        inputs = [
            x,
            self.constant(f"{prefix}.qkv.weight", weight),
            self.constant(f"{prefix}.qkv.bias", bias),
            mask,
        ]
        heads = self._config.num_attention_heads
        attended = self.node("Attention", inputs, f"{prefix}.attention", FUSED, num_heads=heads)
        projection = f"{prefix}.attention.output.dense"
        projected = self.linear(projection, attended)
        x = self.skip_norm(f"{prefix}.attention.output.LayerNorm", projected, x, self.bias(projection))
        up, down = f"{prefix}.intermediate.dense", f"{prefix}.output.dense"
        activated = self.node("BiasGelu", [self.linear(up, x), self.bias(up)], f"{prefix}.gelu", FUSED)
        return self.skip_norm(f"{prefix}.output.LayerNorm", self.linear(down, activated), x, self.bias(down))

    def pool(self, x: str, mask: str) -> str:
        axis = self.constant("axis.tokens", np.array([1], np.int64))
        last = self.constant("axis.last", np.array([2], np.int64))
        weight = self.node("Cast", [mask], "pool.mask", to=TensorProto.FLOAT)
        weight = self.node("Unsqueeze", [weight, last], "pool.weight")
        total = self.node("ReduceSum", [self.node("Mul", [x, weight], "pool.kept"), axis], "pool.sum", keepdims=0)
        count = self.node("ReduceSum", [weight, axis], "pool.count", keepdims=0)
        mean = self.node("Div", [total, count], "pool.mean")
        return self.node("LpNormalization", [mean], OUTPUT, axis=1, p=2)


def build(config: BertConfig, weights: Weights, layers: int) -> onnx.ModelProto:
    """Builds the model: input_ids, attention_mask int32 [batch, tokens] -> sentence_embedding float32 [batch, hidden].

    Only the first `layers` layers are built; the output of the last one is pooled.
    """
    graph = _Graph(config, weights)
    x = graph.embeddings("input_ids")
    for index in range(layers):
        x = graph.layer(index, x, "attention_mask")
    graph.pool(x, "attention_mask")
    shape = ["batch", "tokens"]
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT32, shape) for name in ("input_ids", "attention_mask")]
    output = helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", config.hidden_size])
    proto = helper.make_graph(graph.nodes, "sentence_encoder", inputs, [output], graph.initializers)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
    return helper.make_model(proto, opset_imports=opsets, ir_version=10, producer_name="coe")
