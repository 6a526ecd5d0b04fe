"""The custom ops through ONNX Runtime sessions, against numpy."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from coe import native
from coe.native import packing

DEADLINE_S = 30.0
RNG = np.random.default_rng(3)
Deploy = Callable[[bytes], int]


def session(kind: str, inputs: dict[str, tuple[int, int]], rank: int = 2, **attributes: object) -> ort.InferenceSession:
    """One node; `inputs` are name -> (element type, rank)."""
    node = helper.make_node(kind, ["expert_slot", *inputs], ["y"], domain="ai.coe.tiered", **attributes)
    return session_of(node, {"expert_slot": (TensorProto.INT64, 1), **inputs}, {"y": (TensorProto.FLOAT, rank)})


def session_of(
    node: onnx.NodeProto, inputs: dict[str, tuple[int, int]], outputs: dict[str, tuple[int, int]]
) -> ort.InferenceSession:
    values, results = (
        [helper.make_tensor_value_info(n, t, [None] * r) for n, (t, r) in side.items()] for side in (inputs, outputs)
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.coe.tiered", 1)]
    model = helper.make_model(helper.make_graph([node], "g", values, results), opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(native.ops_library_path()))
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def arena() -> Iterator[native.HbmArena]:
    native.set_threads(2)
    with native.HbmArena.create(f"coe-ops-{os.getpid()}", 16 << 20, slots=8) as arena:
        arena.bind()
        yield arena
    arena.unlink()


@pytest.fixture
def deploy(arena: native.HbmArena, tmp_path: Path) -> Iterator[Deploy]:
    """Loads bytes into a slot and gives its lease; frees it at the end."""
    slots: list[int] = []

    def put(content: bytes) -> int:
        slot = len(slots)
        path = tmp_path / f"weights-{slot}"
        path.write_bytes(content)
        with native.WeightsFile.open(path) as file:
            load = arena.load(slot, slot << 21, file)
            assert load.wait(DEADLINE_S)
            assert load.error is None
        slots.append(slot)
        return native.lease_handle(slot, load.generation)

    yield put
    for slot in slots:
        if arena.slot(slot).state is native.SlotState.RESIDENT:
            arena.free(slot)


def packed(fmt: str, rows: int, cols: int) -> tuple[bytes, np.ndarray]:
    width, nbytes = {"f32": (1, 4), "q8_0": (32, 34), "q8_0_planes": (32, 34), "q4_1": (32, 20)}[fmt]
    raw = RNG.integers(0, 256, (rows * cols // width, nbytes), np.uint8)
    if fmt == "f32":
        raw = RNG.standard_normal((rows, cols), np.float32).view(np.uint8)
    else:
        raw[:, 1:4:2] &= 0xBB
        scales = RNG.uniform(0.001, 0.01, (len(raw), 2)).astype(np.float16).view(np.uint8)
        raw[:, : 4 if fmt == "q4_1" else 2] = scales[:, : 4 if fmt == "q4_1" else 2]
    blob = packing.pack(fmt, raw, rows, cols)
    return blob.tobytes(), packing.unpack(fmt, blob, rows, cols)


def slot_of(lease: int) -> np.ndarray:
    return np.array([lease], np.int64)


FLOAT2 = (TensorProto.FLOAT, 2)
INT1 = (TensorProto.INT64, 1)


@pytest.mark.parametrize("fmt", ["f32", "q8_0", "q4_1"])
@pytest.mark.parametrize("tokens", [1, 7])
def test_linear_with_all_its_options(deploy: Deploy, fmt: str, tokens: int) -> None:
    blob, w = packed(fmt, 24, 64)
    norm, bias = RNG.standard_normal(64, np.float32), RNG.standard_normal(24, np.float32)
    lease = deploy(norm.tobytes() + bias.tobytes() + b"\0" * 160 + blob)
    shape = {"offset": 512, "format": fmt, "rows": 24, "cols": 64, "exact": 1}
    x = RNG.standard_normal((tokens, 64), np.float32)
    residual = RNG.standard_normal((tokens, 24), np.float32)
    plain = session(
        "TieredLinear", {"x": FLOAT2, "residual": FLOAT2}, norm_offset=0, bias_offset=256, epsilon=1e-5, **shape
    )
    (y,) = plain.run(None, {"expert_slot": slot_of(lease), "x": x, "residual": residual})
    normed = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-5) * norm
    np.testing.assert_allclose(y, normed @ w.T + bias + residual, rtol=1e-4, atol=1e-4)
    gate = session("TieredLinear", {"x": FLOAT2}, activation="silu_gate", **{**shape, "rows": 16})
    (y,) = gate.run(None, {"expert_slot": slot_of(lease), "x": x})
    g, up = x @ w[:8].T, x @ w[8:16].T
    np.testing.assert_allclose(y, g / (1 + np.exp(-g)) * up, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("bits", "share"), [(16, 2e-5), (8, 0.004)])
def test_rounded_activations_are_within_their_bound(deploy: Deploy, bits: int, share: float) -> None:
    blob, w = packed("q4_1", 40, 256)
    lease = deploy(blob)
    node = session("TieredLinear", {"x": FLOAT2}, offset=0, format="q4_1", rows=40, cols=256, activation_bits=bits)
    x = RNG.standard_normal((5, 256), np.float32)
    (y,) = node.run(None, {"expert_slot": slot_of(lease), "x": x})
    bound = share * np.linalg.norm(x, axis=1)[:, None] * np.linalg.norm(w, axis=1)[None]
    assert (np.abs(y - x @ w.T) < bound).all()


def test_embedding_norm_and_head(deploy: Deploy) -> None:
    blob, w = packed("q8_0", 50, 32)
    norm = RNG.standard_normal(32, np.float32)
    lease = slot_of(deploy(blob + norm.tobytes()))
    at = len(blob)
    shape = {"offset": 0, "format": "q8_0", "rows": 50, "cols": 32}
    ids = np.array([49, 0, 7])
    (x,) = session("TieredEmbedding", {"ids": INT1}, scale=2.0, **shape).run(None, {"expert_slot": lease, "ids": ids})
    np.testing.assert_allclose(x, 2 * w[ids], rtol=1e-6)
    rms = session("TieredRMSNorm", {"x": FLOAT2, "residual": FLOAT2}, offset=at, cols=32, epsilon=1e-6)
    (y,) = rms.run(None, {"expert_slot": lease, "x": x, "residual": x})
    normed = x / np.sqrt((x**2).mean(1, keepdims=True) + 1e-6) * norm
    np.testing.assert_allclose(y, normed + x, rtol=1e-4, atol=1e-5)
    head = session(
        "TieredLMHead", {"x": FLOAT2, "rows": INT1}, norm_offset=at, epsilon=1e-6, softcap=3.0, exact=1, **shape
    )
    (logits,) = head.run(None, {"expert_slot": lease, "x": x, "rows": np.array([2, 0])})
    np.testing.assert_allclose(logits, 3 * np.tanh(normed[[2, 0]] @ w.T / 3), rtol=1e-4, atol=1e-4)


def greedy_head(fmt: str, rows: int, cols: int, **attributes: object) -> ort.InferenceSession:
    node = helper.make_node(
        "TieredGreedyHead",
        ["expert_slot", "x", "rows"],
        ["likeliest", "peaks"],
        domain="ai.coe.tiered",
        offset=0,
        format=fmt,
        rows=rows,
        cols=cols,
        **attributes,
    )
    inputs = {"expert_slot": INT1, "x": FLOAT2, "rows": INT1}
    outputs = {"likeliest": INT1, "peaks": (TensorProto.FLOAT, 1)}
    return session_of(node, inputs, outputs)


@pytest.mark.parametrize("fmt", ["q8_0_planes", "q8_0", "q4_1", "f32"])
@pytest.mark.parametrize("tokens", [1, 4, 6, 20])
def test_the_greedy_head_is_the_first_maximum_of_the_logits(deploy: Deploy, fmt: str, tokens: int) -> None:
    rows, cols = 1003, 96
    blob, _ = packed(fmt, rows, cols)
    lease = slot_of(deploy(blob))
    feeds = {"expert_slot": lease, "x": RNG.standard_normal((tokens + 1, cols), np.float32)}
    feeds["rows"] = np.arange(tokens)[::-1].copy()
    shape = {"offset": 0, "format": fmt, "rows": rows, "cols": cols}
    (logits,) = session("TieredLMHead", {"x": FLOAT2, "rows": INT1}, **shape).run(None, feeds)
    likeliest, peaks = greedy_head(fmt, rows, cols).run(None, feeds)
    np.testing.assert_array_equal(likeliest, logits.argmax(axis=1))
    np.testing.assert_array_equal(peaks, logits.max(axis=1))
    nothing = greedy_head(fmt, rows, cols).run(None, feeds | {"rows": np.array([], np.int64)})
    assert [output.shape for output in nothing] == [(0,), (0,)]


def test_what_does_not_fit_is_named(deploy: Deploy) -> None:
    blob, _ = packed("q8_0", 8, 32)
    lease = slot_of(deploy(blob))
    shape = {"offset": 0, "format": "q8_0", "rows": 8, "cols": 32}
    embed = session("TieredEmbedding", {"ids": INT1}, **shape)
    for bad in (-1, 8):
        with pytest.raises(Exception, match="vocabulary of 8"):
            embed.run(None, {"expert_slot": lease, "ids": np.array([bad])})
    with pytest.raises(Exception, match="leaves the slot"):
        session("TieredEmbedding", {"ids": INT1}, **{**shape, "rows": 16}).run(
            None, {"expert_slot": lease, "ids": np.array([0])}
        )
    with pytest.raises(Exception, match="unknown weight format"):
        session("TieredEmbedding", {"ids": INT1}, **{**shape, "format": "q9"})
    with pytest.raises(Exception, match="width"):
        session("TieredLinear", {"x": FLOAT2}, **shape).run(
            None, {"expert_slot": lease, "x": np.zeros((1, 31), np.float32)}
        )
    with pytest.raises(Exception, match="head has no gate"):
        session("TieredLMHead", {"x": FLOAT2, "rows": INT1}, activation="silu_gate", **{**shape, "rows": 16})
    with pytest.raises(Exception, match="head has activations of 16 bits"):
        session("TieredLMHead", {"x": FLOAT2, "rows": INT1}, activation_bits=8, **shape)
    with pytest.raises(Exception, match="must be 8 or 16"):
        session("TieredLinear", {"x": FLOAT2}, activation_bits=4, **shape)
    with pytest.raises(Exception, match="2\\^56"):
        session("TieredLinear", {"x": FLOAT2}, offset=0, format="f32", rows=1 << 32, cols=1 << 30)
    with pytest.raises(Exception, match="multiple of 8 outputs"):
        session("TieredLinear", {"x": FLOAT2}, activation="silu_gate", **{**shape, "rows": 24})
    heads = {"layer": 0, "num_heads": 2, "num_kv_heads": 1, "head_dim": 16, "block_size": 16, "scale": 0.25}
    step = {"qkv": FLOAT2, "positions": INT1, "sequence_ids": INT1, "table": (INT1[0], 2), "kv": (FLOAT2[0], 6)}
    with pytest.raises(Exception, match="at most 65536"):
        session("PagedAttention", step, rope_theta=1e4, **{**heads, "num_heads": (1 << 60) + 1})
    for theta, factor in ((float("nan"), 1.0), (0.0, 1.0), (1e4, float("nan")), (1e4, -1.0), (1e4, float("inf"))):
        with pytest.raises(Exception, match="must be positive numbers"):
            session("PagedAttention", step, rope_theta=theta, rope_factors=[factor] * 8, **heads)


def test_a_stale_generation_always_fails(deploy: Deploy, arena: native.HbmArena) -> None:
    blob, _ = packed("q8_0", 8, 32)
    lease = deploy(blob)
    embed = session("TieredEmbedding", {"ids": INT1}, offset=0, format="q8_0", rows=8, cols=32)
    feeds = {"ids": np.array([0])}
    embed.run(None, {"expert_slot": slot_of(lease), **feeds})
    arena.free(0)
    for stale in (lease, native.lease_handle(0, 0), native.lease_handle(7, 12)):
        with pytest.raises(Exception, match="stale lease"):
            embed.run(None, {"expert_slot": slot_of(stale), **feeds})
