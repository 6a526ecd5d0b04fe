"""Importing: whole, interrupted, refused."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader, dequantize

from coe.experts import importer
from coe.experts.bundle import Bundle
from coe.experts.catalogue import Catalogue
from coe.experts.gguf_source import GgufSource
from coe.experts.hf_source import HfSource
from coe.experts.importer import PARTIAL_PREFIX, import_model
from coe.experts.manifest import CHUNK_BYTES
from coe.native import packing
from coe.platform.errors import ArtifactError
from integration.experts.tiny_import import MODEL, run
from support.gguf_files import TinyModel, write_tiny_gguf
from support.hf_folders import write_hf_folder


def test_every_tensor_is_there_without_loss(source: GgufSource, experts: Path, tmp_path: Path) -> None:
    bundle = run(source, experts)
    data = bundle.weights_path.read_bytes()
    assert len(data) > 2 * CHUNK_BYTES
    stored = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "tiny.gguf").tensors}

    def unpacked(name: str) -> np.ndarray:
        place = bundle.manifest.tensors[name]
        raw = np.frombuffer(data, np.uint8, place.nbytes, place.offset)
        return packing.unpack(place.format, raw, place.rows, place.cols)

    def original(name: str) -> np.ndarray:
        return dequantize(stored[name].data, stored[name].tensor_type)

    np.testing.assert_array_equal(unpacked("embedding"), original("token_embd.weight"))
    np.testing.assert_array_equal(
        unpacked("layer.2.gate_up"),
        np.concatenate([original("blk.2.ffn_gate.weight"), original("blk.2.ffn_up.weight")]),
    )
    place = bundle.manifest.tensors["layer.1.attention_norm"]
    norm = np.frombuffer(data, np.float32, place.cols, place.offset)
    np.testing.assert_array_equal(norm, original("blk.1.attn_norm.weight"))
    bundle.verify()


def test_the_same_model_again_is_left_as_it_is(source: GgufSource, experts: Path) -> None:
    before = run(source, experts).weights_path.stat().st_mtime_ns
    assert run(source, experts).weights_path.stat().st_mtime_ns == before


def test_a_disk_without_room_is_found_before_anything_is_packed(
    source: GgufSource, experts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(importer.shutil, "disk_usage", lambda _folder: SimpleNamespace(free=1 << 20))
        with pytest.raises(ArtifactError, match="has 1 MiB free, but the import needs"):
            run(source, experts, progress=lambda done, total: pytest.fail("it packs"))
    run(source, experts).verify()


def test_another_model_does_not_take_the_id(source: GgufSource, another: GgufSource, experts: Path) -> None:
    run(source, experts)
    with pytest.raises(ArtifactError, match="with another model"):
        run(another, experts)


def test_the_same_weights_with_other_words_are_not_taken_in_silence(experts: Path, tmp_path: Path) -> None:
    model = replace(MODEL, layers=1, kind=GGMLQuantizationType.F32)
    folder = write_hf_folder(tmp_path / "hf", write_tiny_gguf(tmp_path / "f32.gguf", model), model)

    def import_folder() -> Bundle:
        opened = HfSource(folder)
        try:
            return import_model(opened, experts, "tiny", origin="hf", progress=lambda done, total: None)
        finally:
            opened.close()

    assert import_folder().id == import_folder().id
    tokenizer, ends = folder / "tokenizer.json", folder / "generation_config.json"
    whole = tokenizer.read_text()
    document = json.loads(whole)
    document["model"]["merges"].pop()
    tokenizer.write_text(json.dumps(document))
    with pytest.raises(ArtifactError, match="with a different tokenizer: remove it first"):
        import_folder()
    tokenizer.write_text(json.dumps(json.loads(whole), indent=2))  # the same, otherwise written
    ends.write_text(json.dumps({"eos_token_id": [5]}))
    with pytest.raises(ArtifactError, match="end an answer: remove it first"):
        import_folder()
    ends.unlink()
    (folder / "chat_template.jinja").write_text("{{ messages[-1].content }}")
    with pytest.raises(ArtifactError, match="a different chat template: remove it first"):
        import_folder()
    Catalogue(experts).remove("tiny")
    assert import_folder().manifest.tokenizer.chat_template == "{{ messages[-1].content }}"
    (folder / "chat_template.jinja").write_text("{% for m in messages %}")
    Catalogue(experts).remove("tiny")
    with pytest.raises(ArtifactError, match="chat template is invalid"):
        import_folder()


@pytest.mark.parametrize("expert_id", ["../up", "", "a/b", ".hidden", "Upper", "a@", "x\n"])
def test_an_id_is_no_path(source: GgufSource, experts: Path, expert_id: str) -> None:
    with pytest.raises(ArtifactError, match="not a valid expert id"):
        run(source, experts, expert_id)
    assert not experts.exists()


def test_an_interrupted_import_shows_nothing_and_goes_on(source: GgufSource, experts: Path) -> None:
    class Crash(Exception):
        pass

    def crash(done: int, total: int) -> None:
        if done > 2 * CHUNK_BYTES:
            raise Crash

    with pytest.raises(Crash):
        run(source, experts, progress=crash)
    assert Catalogue(experts).list() == []
    done: list[int] = []
    bundle = run(source, experts, progress=lambda at, total: done.append(at))
    assert min(done) > 2 * CHUNK_BYTES
    bundle.verify()
    fresh = run(source, experts, "fresh")
    assert fresh.weights_path.read_bytes() == bundle.weights_path.read_bytes()
    assert sorted(path.name for path in experts.iterdir()) == ["fresh", "tiny"]


def test_a_damaged_leftover_is_written_again(source: GgufSource, experts: Path) -> None:
    def crash(done: int, total: int) -> None:
        if done > 2 * CHUNK_BYTES:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(source, experts, progress=crash)
    with (experts / f"{PARTIAL_PREFIX}tiny" / "weights.coe").open("r+b") as file:
        file.seek(CHUNK_BYTES + 5)
        file.write(b"damage")
    run(source, experts).verify()


def test_two_importers_of_one_id_do_not_meet(source: GgufSource, experts: Path) -> None:
    def import_again(done: int, total: int) -> None:
        with pytest.raises(ArtifactError, match="another process"):
            run(source, experts)

    run(source, experts, progress=import_again)


def test_layouts_differ_with_formats(tmp_path: Path, experts: Path) -> None:
    keys = set()
    for number, kind in enumerate((GGMLQuantizationType.Q4_0, GGMLQuantizationType.Q8_0)):
        path = write_tiny_gguf(tmp_path / f"{number}.gguf", TinyModel(kind=kind))
        source = GgufSource.open(path)
        keys.add(run(source, experts, f"tiny-{number}").layout_key)
        source.close()
    assert len(keys) == 2
