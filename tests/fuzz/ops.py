"""Single custom ops with attributes and inputs out of a Draw, run under a lease."""

from contextlib import suppress
from typing import Any

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper

from coe import native
from fuzz.draw import Draw

FORMATS = (
    "f32",
    "f16",
    "bf16",
    "q4_0",
    "q4_1",
    "q5_0",
    "q5_1",
    "q8_0",
    "q4_k",
    "q5_k",
    "q6_k",
    "q9",
    "",
    "q8_0_planes",
)
ROWS, COLS = 64, 256
FLOAT, HALF, INT64 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.INT64
_KINDS: dict[Any, int] = {np.dtype(np.float32): FLOAT, np.dtype(np.float16): HALF, np.dtype(np.int64): INT64}
HEADS = ("TieredLMHead", "TieredGreedyHead")
# Larger graphs and tensors only take time.
MOST_VALUES = 1 << 20


def run_op(draw: Draw, lease: int) -> None:
    kind = draw.of(("TieredEmbedding", "TieredRMSNorm", "TieredLinear", *HEADS, "PagedAttention"))
    inputs, attributes = (_attention if kind == "PagedAttention" else _matrix)(draw, kind)
    handle = np.array([_signed(lease)] * draw.of((1, 1, 1, 0, 2)), np.int64)
    inputs = {"expert_slot": handle, **inputs}
    if sum(value.size for value in inputs.values()) > MOST_VALUES:
        return
    # ONNX Runtime has many classes for what it refuses. A crash is what is looked for.
    with suppress(Exception):
        _session(kind, inputs, attributes).run(None, inputs)


def _session(kind: str, inputs: dict[str, np.ndarray], attributes: dict[str, Any]) -> ort.InferenceSession:
    outputs = (
        {"y": (INT64, [None]), "peaks": (FLOAT, [None])} if kind == "TieredGreedyHead" else {"y": (FLOAT, [None] * 2)}
    )
    node = helper.make_node(kind, list(inputs), list(outputs), domain="ai.coe.tiered", **attributes)
    values = [
        helper.make_tensor_value_info(name, _KINDS[value.dtype], [None] * value.ndim) for name, value in inputs.items()
    ]
    results = [helper.make_tensor_value_info(name, *shape) for name, shape in outputs.items()]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.coe.tiered", 1)]
    model = helper.make_model(helper.make_graph([node], "g", values, results), opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(native.ops_library_path()))
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _matrix(draw: Draw, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    cols = draw.of((COLS, COLS, 32, 8, 1, 0))
    attributes: dict[str, Any] = {
        "offset": _signed(draw.of((0, 64, 4096, draw.integer(1 << 20)))),
        "cols": _signed(draw.of((cols, cols, cols, draw.integer(COLS)))),
    }
    if kind != "TieredRMSNorm":
        attributes |= {"format": draw.of(FORMATS), "rows": _signed(draw.of((ROWS, ROWS, 8, draw.integer(ROWS))))}
    if kind in ("TieredLinear", *HEADS):
        attributes |= {
            "norm_offset": draw.of((-1, 0, 3, 1 << 40)),
            "bias_offset": draw.of((-1, -1, 0, 1 << 40)),
            "activation": draw.of(("none", "none", "silu_gate", "gelu_gate", "odd")),
            "exact": draw.below(3),
        }
    tokens = draw.of((1, 2, 7, 0, 33))
    if kind == "TieredEmbedding":
        return {"token_ids": _integers(draw, tokens, ROWS)}, attributes
    inputs = {"x": np.ones((tokens, draw.of((cols, cols, cols, 5))), np.float32)}
    if kind in HEADS:
        attributes["softcap"] = draw.of((0.0, 0.0, 5.0, -1.0, float("nan")))
        inputs["rows"] = _integers(draw, draw.of((1, 3, 0)), max(1, tokens))
    return inputs, attributes


def _attention(draw: Draw, kind: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    heads, kv_heads = draw.of((4, 4, 3, 0)), draw.of((2, 2, 4, 0))
    head_dim, block = draw.of((16, 16, 32, 8, 0)), draw.of((16, 16, 32, 0, 5))
    attributes: dict[str, Any] = {
        "layer": _signed(draw.of((0, 0, 1, draw.integer(2)))),
        "num_heads": _signed(draw.of((heads, heads, heads, draw.integer(8)))),
        "num_kv_heads": _signed(draw.of((kv_heads, kv_heads, kv_heads, draw.integer(8)))),
        "head_dim": _signed(draw.of((head_dim, head_dim, head_dim, draw.integer(32)))),
        "block_size": _signed(draw.of((block, block, block, draw.integer(32)))),
        "rope_theta": draw.of((10_000.0, 0.0, -1.0, float("nan"), float("inf"))),
        "scale": draw.of((0.25, 0.0, float("nan"))),
        "rope_dim": _signed(draw.of((head_dim, head_dim, 2, draw.integer(32)))),
        "window": _signed(draw.of((0, 0, 4, draw.integer(16)))),
        "softcap": draw.of((0.0, 5.0, -1.0, float("nan"))),
        "q_norm_offset": draw.of((-1, -1, 0, 2, 1 << 40)),
        "k_norm_offset": draw.of((-1, -1, 0, 2, 1 << 40)),
        "epsilon": draw.of((1e-6, 0.0, -1.0)),
    }
    factors = draw.of((0, 0, head_dim // 2, 3))
    if factors:
        attributes["rope_factors"] = [draw.of((1.0, 8.0, 0.0, float("nan")))] * factors
    tokens, blocks, sequences = draw.of((1, 3, 17, 0)), draw.of((4, 1, 0)), draw.of((1, 2, 0))
    width = (heads + 2 * kv_heads) * head_dim
    inputs = {
        "qkv": np.ones((tokens, draw.of((width, width, width, 7))), np.float32),
        "positions": _integers(draw, tokens, 32) if draw.below(2) else np.arange(tokens, dtype=np.int64),
        "sequence_ids": _integers(draw, tokens, 2) if draw.below(2) else np.zeros(tokens, np.int64),
        "block_table": _integers(draw, sequences * 3, 4).reshape(sequences, 3),
        "kv": np.zeros((draw.of((2, 1, 0)), blocks, 2, kv_heads, block, head_dim), draw.of((np.float32, np.float16))),
    }
    return inputs, attributes


def _integers(draw: Draw, count: int, usual: int) -> np.ndarray:
    return np.array([_signed(draw.integer(usual)) for _ in range(count)], np.int64)


def _signed(value: int) -> int:
    """The int64 with these bits."""
    return (value + (1 << 63)) % (1 << 64) - (1 << 63)
