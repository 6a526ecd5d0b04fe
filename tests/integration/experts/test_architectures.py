"""Every architecture and quantisation through the real ops, on tiny random models, against the numpy reference."""

from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType as Q

from coe.experts.hf_source import HfSource
from coe.experts.importer import import_model
from coe.experts.kv_format import KvFormat
from coe.experts.single import Hosted
from support.experts import GraphProbe, import_gguf
from support.gguf_files import TOKENS, TinyModel, write_tiny_gguf
from support.hf_folders import write_hf_folder
from support.numpy_llm import NumpyLlm

FAMILIES = ("llama", "qwen2", "qwen3", "gemma2", "gemma3")
EXACT_TOLERANCE = 1e-4
SERVED_TOLERANCE = 0.1
PIECES_TOLERANCE = 2e-4
KV_BYTES = 16 << 20
FORMATS = (Q.F32, Q.F16, Q.BF16, Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q4_K, Q.Q5_K, Q.Q6_K)
MIXED = {"attn_v.weight": Q.Q8_0, "ffn_up.weight": Q.Q5_0, "ffn_down.weight": Q.F16}


def ids(count: int = 40) -> list[int]:
    return np.random.default_rng(3).integers(0, len(TOKENS), count).tolist()


def relative_rms(ours: np.ndarray, reference: np.ndarray) -> float:
    return float(np.sqrt(((ours - reference) ** 2).mean() / (reference**2).mean()))


def check(tmp_path: Path, model: TinyModel, tolerance: float) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", model)
    bundle = import_gguf(path, tmp_path / "experts", "tiny")
    with Hosted.load(bundle, threads=1, kv_bytes=KV_BYTES) as hosted:
        probe = GraphProbe(bundle, hosted.lease, KV_BYTES)
        whole, pieces = probe.logits(ids()), probe.logits(ids(), (13, 1, 1, 25))
    assert relative_rms(whole, NumpyLlm(path).logits(ids())) <= tolerance
    # Long and short pieces may be multiplied by different kernels, each as close as the other.
    assert relative_rms(pieces, whole) <= PIECES_TOLERANCE


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_NATIVE_EXACT", "1")


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kinds", [{}, MIXED], ids=["fused", "mixed"])
def test_every_family_equals_the_reference(tmp_path: Path, family: str, kinds: dict[str, Q]) -> None:
    # Seven layers: one global layer of Gemma 3 in six, and prompts longer than the window of eight.
    model = TinyModel(family=family, layers=7, kinds=kinds, tied=family != "qwen2", kind=Q.Q4_1)
    check(tmp_path, model, EXACT_TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_is_close_as_served(tmp_path: Path, family: str) -> None:
    check(tmp_path, TinyModel(family=family, layers=2), SERVED_TOLERANCE)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    "kinds", [{}, {"blk.2.attn_v.weight": Q.F16, "blk.3.ffn_up.weight": Q.Q4_0}], ids=["alike", "mixed"]
)
def test_layers_as_one_node_equal_their_parts(tmp_path: Path, family: str, kinds: dict[str, Q]) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel(family=family, layers=7, kinds=kinds))
    bundle = import_gguf(path, tmp_path / "experts", "tiny")
    with Hosted.load(bundle, threads=1, kv_bytes=KV_BYTES) as hosted:
        whole = GraphProbe(bundle, hosted.lease, KV_BYTES).logits(ids())
        parts = GraphProbe(bundle, hosted.lease, KV_BYTES, fused=False).logits(ids())
    np.testing.assert_array_equal(whole, parts)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_width_that_gates_do_not_take_together(tmp_path: Path, family: str) -> None:
    check(tmp_path, TinyModel(family=family, feed_forward=20, kind=Q.F16), EXACT_TOLERANCE)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("kind", FORMATS, ids=lambda kind: kind.name)
def test_every_format_equals_the_reference(tmp_path: Path, kind: Q) -> None:
    check(tmp_path, TinyModel(kind=kind, hidden=256, heads=16, feed_forward=512), EXACT_TOLERANCE)


@pytest.mark.usefixtures("exact")
def test_llama_3_1_rotary_factors(tmp_path: Path) -> None:
    check(tmp_path, TinyModel(rope_factors=True, tied=False), EXACT_TOLERANCE)


@pytest.mark.usefixtures("exact")
def test_gemma_3_scales_the_frequencies_of_global_layers_only(tmp_path: Path) -> None:
    check(tmp_path, TinyModel(family="gemma3", layers=7, rope_scale=8.0), EXACT_TOLERANCE)


@pytest.mark.usefixtures("exact")
def test_the_largest_gemma_2_scales_queries_by_the_width_of_a_head(tmp_path: Path) -> None:
    check(tmp_path, TinyModel(family="gemma2", layers=46, hidden=128), EXACT_TOLERANCE)


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("family", FAMILIES)
def test_a_hugging_face_folder_gives_the_same_logits(tmp_path: Path, family: str) -> None:
    model = TinyModel(family=family, kind=Q.F32)
    path = write_tiny_gguf(tmp_path / "tiny.gguf", model)
    source = HfSource(write_hf_folder(tmp_path / "folder", path, model))
    try:
        bundle = import_model(source, tmp_path / "experts", "tiny", origin="folder", progress=lambda done, total: None)
    finally:
        source.close()
    with Hosted.load(bundle, threads=1, kv_bytes=KV_BYTES) as hosted:
        ours = GraphProbe(bundle, hosted.lease, KV_BYTES).logits(ids())
    assert relative_rms(ours, NumpyLlm(path).logits(ids())) <= EXACT_TOLERANCE


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize(("kv_format", "tolerance"), [("f16", 2e-3), ("i8", 2e-2)])
@pytest.mark.parametrize("family", FAMILIES)
def test_keys_and_values_in_fewer_bytes(tmp_path: Path, family: str, kv_format: KvFormat, tolerance: float) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel(family=family))
    bundle = import_gguf(path, tmp_path / "experts", "tiny")
    with Hosted.load(bundle, threads=1, kv_bytes=KV_BYTES) as hosted:
        ours = GraphProbe(bundle, hosted.lease, KV_BYTES, kv_format).logits(ids(), (20, 1, 19))
    assert relative_rms(ours, NumpyLlm(path).logits(ids())) <= tolerance
