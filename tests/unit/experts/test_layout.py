from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from onnx import helper, numpy_helper

from coe.experts.gguf_config import read_config
from coe.experts.gguf_file import GgufFile
from coe.experts.gguf_source import GgufSource
from coe.experts.graph import DOMAIN, build_graph, require_weightless
from coe.experts.layout import ALIGNMENT, place, plan_tensors
from coe.experts.source import SourceTensor
from coe.native import ops_library_path
from coe.platform.errors import ArtifactError
from support.gguf_files import TinyModel, write_metadata, write_tiny_gguf

Open = Callable[..., GgufSource]


@pytest.fixture
def source_of(tmp_path: Path) -> Iterator[Open]:
    opened: list[GgufSource] = []

    def open_tiny(**changes: object) -> GgufSource:
        opened.append(GgufSource.open(write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel(**changes))))
        return opened[-1]

    yield open_tiny
    for source in opened:
        source.close()


def nbytes(kind: str, rows: int, cols: int) -> int:
    return rows * cols


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma2", "gemma3"])
def test_tensors_lie_aligned_and_in_execution_order(source_of: Open, family: str) -> None:
    source = source_of(family=family)
    placed = place(plan_tensors(source.config, source.tensors), nbytes)
    names = list(placed)
    assert names[0] == "embedding"
    assert names[-1] == "final_norm"
    assert names.index("layer.0.down") < names.index("layer.1.attention_norm")
    end = 0
    for tensor in placed.values():
        assert tensor.offset % ALIGNMENT == 0
        assert tensor.offset >= end
        end = tensor.offset + tensor.nbytes


def test_equal_formats_are_fused_and_different_ones_are_not(source_of: Open) -> None:
    source = source_of(kinds={"attn_v.weight": GGMLQuantizationType.Q4_0})
    planned = {tensor.name: tensor for tensor in plan_tensors(source.config, source.tensors)}
    assert "layer.0.qkv" not in planned
    assert planned["layer.0.v"].format == "q4_0"
    assert planned["layer.0.gate_up"].rows == 2 * source.config.feed_forward


def test_llama_rows_leave_the_interleaved_order(tmp_path: Path, source_of: Open) -> None:
    source = source_of()
    stored = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "tiny.gguf").tensors}["blk.0.attn_q.weight"]
    raw = np.asarray(stored.data)
    rows = source.read_rows(source.tensors["blk.0.attn_q.weight"], 0, 64)
    # Head 1 begins at row 16: its halves are the even and the odd rows of the file.
    np.testing.assert_array_equal(rows[16:24], raw[16:32:2])
    np.testing.assert_array_equal(rows[24:32], raw[17:32:2])
    np.testing.assert_array_equal(source.read_rows(source.tensors["blk.0.attn_q.weight"], 10, 21), rows[10:21])


def test_gate_and_up_share_no_panel(source_of: Open) -> None:
    source = source_of(feed_forward=20, kind=GGMLQuantizationType.F16)
    planned = [tensor.name for tensor in plan_tensors(source.config, source.tensors)]
    assert "layer.0.gate_up" not in planned
    assert planned.index("layer.0.up") == planned.index("layer.0.gate") + 1


@pytest.mark.parametrize(
    "changes",
    [
        {"head_dim": 24},
        {"head_dim": 0},
        {"head_dim": 2048},
        {"heads": 0},
        {"heads": 3},
        {"family": "gemma2", "hidden": 0, "layers": 46},
    ],
    ids=str,
)
def test_what_attention_cannot_compute_is_no_model(tmp_path: Path, changes: dict[str, Any]) -> None:
    path = tmp_path / "odd.gguf"
    writer = GGUFWriter(path, changes.get("family", "llama"))
    write_metadata(writer, TinyModel(**changes))
    writer.add_tensor("token_embd.weight", np.ones((8, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ArtifactError):
        GgufSource.open(path)


def test_what_the_first_files_of_gemma_2_leave_out_is_as_in_all_of_them(tmp_path: Path) -> None:
    named = ("gemma2.attn_logit_softcapping", "gemma2.final_logit_softcapping", "gemma2.attention.sliding_window")
    with GgufFile.open(write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel(family="gemma2"))) as file:
        assert set(named) <= set(file.metadata)
        file.metadata = {key: value for key, value in file.metadata.items() if key not in named}
        config = read_config(file)
    assert (config.attention_softcap, config.logit_softcap, config.window) == (50.0, 30.0, 4096)


@pytest.mark.parametrize(
    ("said", "message"),
    [({"llama.expert_count": 8}, "mixture-of-experts"), ({"general.type": "adapter"}, "is an adapter: merge it")],
)
def test_what_is_no_whole_dense_model_is_refused_by_name(tmp_path: Path, said: dict, message: str) -> None:
    with GgufFile.open(write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel())) as file:
        file.metadata = {**file.metadata, **said}
        with pytest.raises(ArtifactError, match=message):
            read_config(file)


def test_a_missing_or_misshapen_tensor_is_named(source_of: Open) -> None:
    source = source_of()
    tensors = dict(source.tensors)
    del tensors["blk.1.ffn_up.weight"]
    with pytest.raises(ArtifactError, match=r"blk\.1\.ffn_up"):
        plan_tensors(source.config, tensors)
    with pytest.raises(ArtifactError, match="expected"):
        plan_tensors(source.config.model_copy(update={"hidden": 32}), source.tensors)


@pytest.mark.parametrize("name", ["blk.1.attn_output.bias", "blk.0.ffn_down.bias", "output.bias"])
def test_a_bias_that_would_be_left_out_is_named(source_of: Open, name: str) -> None:
    source = source_of(family="qwen2")
    with pytest.raises(ArtifactError, match=name):
        plan_tensors(source.config, {**source.tensors, name: SourceTensor(name, "f32", 1, 64)})


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma2", "gemma3"])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_the_graph_is_weightless_and_connected(source_of: Open, family: str, mixed: bool, fused: bool) -> None:
    kinds = {"attn_v.weight": GGMLQuantizationType.Q4_0, "ffn_up.weight": GGMLQuantizationType.F16} if mixed else {}
    source = source_of(family=family, kinds=kinds)
    placed = place(plan_tensors(source.config, source.tensors), nbytes)
    model = build_graph(source.config, placed, fused=fused)
    assert ("TieredLayers" in {node.op_type for node in model.graph.node}) == (fused and not mixed)
    assert not model.graph.initializer
    known = {value.name for value in model.graph.input}
    for node in model.graph.node:
        assert set(node.input) <= known
        known |= set(node.output)
        if node.domain == DOMAIN:
            assert node.input[0] == "expert_slot"
    assert "logits" in known


def test_a_graph_with_weights_is_refused(source_of: Open) -> None:
    source = source_of()
    model = build_graph(source.config, place(plan_tensors(source.config, source.tensors), nbytes))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1000, np.float32), "weights"))
    with pytest.raises(ArtifactError):
        require_weightless(model)
    del model.graph.initializer[:]
    model.graph.node.append(
        helper.make_node("Constant", [], ["c"], value=numpy_helper.from_array(np.zeros(1000, np.float32)))
    )
    with pytest.raises(ArtifactError):
        require_weightless(model)


@pytest.mark.parametrize(("mixed", "counted"), [("blk.2.attn_v.weight", [5]), ("blk.2.ffn_up.weight", [2, 2])])
def test_layers_in_a_row_are_one_node(source_of: Open, mixed: str, counted: list[int]) -> None:
    source = source_of(layers=5, kinds={mixed: GGMLQuantizationType.F16})
    graph = build_graph(source.config, place(plan_tensors(source.config, source.tensors), nbytes)).graph
    counts = [a.i for node in graph.node if node.op_type == "TieredLayers" for a in node.attribute if a.name == "count"]
    assert counts == counted


@pytest.mark.parametrize(("attribute", "value"), [("1_down_rows", 72), ("1_gate_up_cols", 96), ("count", 0)])
def test_layers_that_do_not_fit_make_no_session(source_of: Open, attribute: str, value: int) -> None:
    source = source_of()
    model = build_graph(source.config, place(plan_tensors(source.config, source.tensors), nbytes))
    (layers,) = (node for node in model.graph.node if node.op_type == "TieredLayers")
    (changed,) = (found for found in layers.attribute if found.name == attribute)
    changed.i = value
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(ops_library_path()))
    with pytest.raises(Exception, match=r"fit each other|count must be"):
        ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
