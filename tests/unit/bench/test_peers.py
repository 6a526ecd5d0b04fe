"""Talking to a peer, its set-up and its model files, with stand-ins for the runtimes."""

import sys
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, dequantize

from coe.bench import peer, peer_setup
from coe.bench.cases import Case
from coe.bench.hf_folder import write_hf_folder
from coe.bench.peer import Peer, PeerModel
from coe.experts.gguf_source import GgufSource
from coe.experts.hf_source import HfSource
from coe.platform.errors import Unavailable
from support.gguf_files import TinyModel, write_tiny_gguf

# A runtime that can't batch, and dies when it has to load again.
SUBJECT = """
class Subject:
    version, settings = "stand-in 1", "none"
    def __init__(self, model, threads, sequences): print("noise of a runtime")
    def prefill(self, prompt, batch): return prompt / 100
    def decode(self, depth, batch, steps):
        if batch > 1: raise ValueError("one at a time")
        return steps / 10
    def load(self): raise SystemExit("out of memory")
"""


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PeerModel:
    (tmp_path / "serve.py").write_text(peer.SERVE.read_text())
    (tmp_path / "standin_subject.py").write_text(SUBJECT)
    monkeypatch.setattr(peer, "SERVE", tmp_path / "serve.py")
    return PeerModel("llama_cpp", "standin", tmp_path / "model")


def test_a_peer_measures_in_its_own_process(model: PeerModel) -> None:
    with Peer(model, Path(sys.executable), 2, 8) as running:
        assert (running.version, running.settings) == ("stand-in 1", "none")
        assert running.seconds(Case("prefill", 128, 0, 1), 64) == 1.28
        assert running.seconds(Case("decode", 0, 512, 1), 64) == 6.4


def test_a_peer_says_what_it_can_not_and_goes_on(model: PeerModel) -> None:
    with Peer(model, Path(sys.executable), 2, 8) as running:
        with pytest.raises(Unavailable, match="can't: ValueError: one at a time"):
            running.seconds(Case("decode", 0, 0, 4), 64)
        assert running.seconds(Case("decode", 0, 0, 1), 64) == 6.4


def test_a_peer_that_dies_leaves_its_last_words(model: PeerModel) -> None:
    with Peer(model, Path(sys.executable), 2, 8) as running, pytest.raises(Unavailable, match="out of memory"):
        running.load_seconds()


def test_a_peer_that_is_not_installed(model: PeerModel) -> None:
    absent = PeerModel("ort_genai", "absent", model.path)
    with pytest.raises(Unavailable, match="No module named 'absent_subject'"):
        Peer(absent, Path(sys.executable), 2, 8)


def test_a_failed_step_of_the_set_up_says_why(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no compiler')"]
    with pytest.raises(Unavailable, match="installing failed: no compiler"):
        peer_setup.run(command, tmp_path / "log", "installing", 60.0)


def test_an_environment_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []

    def make(folder: Path, packages: tuple[str, ...]) -> None:
        folder.mkdir()
        (folder / peer_setup.COMPLETE).touch()
        made.append(folder)

    monkeypatch.setattr(peer_setup, "_make", make)
    monkeypatch.setattr(peer_setup, "peers_folder", lambda: tmp_path)
    said: list[str] = []
    first, second = peer_setup.runtimes(said.append), peer_setup.runtimes(said.append)
    assert first == second == made[0] / "bin" / "python"
    assert (len(made), len(said)) == (1, 1)


def test_the_builder_is_removed_after_use(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_setup, "_make", lambda folder, packages: folder.mkdir())
    monkeypatch.setattr(peer_setup, "peers_folder", lambda: tmp_path)
    with peer_setup.builder(lambda line: None) as interpreter:
        assert interpreter.parents[1].is_dir()
    assert list(tmp_path.iterdir()) == []


def test_a_hugging_face_folder_has_the_same_values(tmp_path: Path) -> None:
    source = GgufSource.open(write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel(kind=GGMLQuantizationType.Q4_1)))
    write_hf_folder(source, tmp_path / "folder")
    folder = HfSource(tmp_path / "folder")
    assert folder.config == source.config
    assert folder.tensors.keys() == source.tensors.keys()
    for name, tensor in source.tensors.items():
        stored = source.read_rows(tensor, 0, tensor.rows)
        meant = dequantize(stored, GGMLQuantizationType[tensor.format.upper()])
        read = folder.read_rows(folder.tensors[name], 0, tensor.rows)
        assert np.array_equal(read.view(np.float32).reshape(meant.shape), meant)
    assert folder.tokenizer().json == source.tokenizer().json
    folder.close()
    source.close()


def test_what_is_no_plain_llama_is_not_written(tmp_path: Path) -> None:
    source = GgufSource.open(write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel(family="gemma3")))
    with pytest.raises(Unavailable, match="gemma3"):
        write_hf_folder(source, tmp_path / "folder")
    source.close()
