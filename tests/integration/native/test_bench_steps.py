"""`coe bench steps` on a tiny model: two builds of the library, each in a process of its own."""

import json
import os
import shutil
from pathlib import Path

import pytest

from coe.cli.main import main
from coe.native import ops_library_path
from support.gguf_files import TinyModel, write_tiny_gguf

CASES = ("--prompt", "16", "--batch", "1,2", "--depth", "0,32")
QUICK = ("--threads", "1", "--rounds", "2", "--steps", "3")


@pytest.fixture(autouse=True)
def all_processors() -> object:
    """Benchmarks pin the process that they run in."""
    processors = os.sched_getaffinity(0)
    yield
    os.sched_setaffinity(0, processors)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_tiny_gguf(tmp_path_factory.mktemp("model") / "tiny.gguf", TinyModel()))


def bench(*arguments: str) -> int:
    """The exit status."""
    with pytest.raises(SystemExit) as exit_:
        main(("bench", "steps", *arguments))
    return int(exit_.value.code or 0)


def test_every_case_has_both_times_and_their_ratio(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(shutil.copy(ops_library_path(), tmp_path / "libother.so"))
    assert bench("--model", model, "--against", str(other), *CASES, *QUICK, "--json") == 0
    line = json.loads(capsys.readouterr().out)
    assert (line["bench"], line["threads"], line["rounds"], line["steps"]) == ("steps", 1, 2, 3)
    assert line["libraries"] == {"this": str(ops_library_path()), "against": str(other)}
    shapes = [(case["phase"], case["prompt"], case["depth"], case["batch"]) for case in line["cases"]]
    decodes = [("decode", 0, depth, batch) for depth in (0, 32) for batch in (1, 2)]
    assert shapes == [("prefill", 16, 0, 1), *decodes]
    for case in line["cases"]:
        assert case["step_ms"] > 0
        assert case["ratio"] == pytest.approx(case["step_ms"] / case["against_step_ms"], rel=0.01)


def test_alone_there_is_a_time_and_no_ratio(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench("--model", model, *CASES, *QUICK, "--json") == 0
    line = json.loads(capsys.readouterr().out)
    assert list(line["libraries"]) == ["this"]
    assert all(case["step_ms"] > 0 and case["ratio"] is None for case in line["cases"])


def test_nothing_is_left_in_shared_memory(model: str) -> None:
    before = set(Path("/dev/shm").glob("coe-single-*"))
    assert bench("--model", model, *CASES, *QUICK, "--json") == 0
    assert set(Path("/dev/shm").glob("coe-single-*")) <= before


def test_what_is_no_build_of_the_library_is_said(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "libother.so").write_text("no library")
    assert bench("--model", model, "--against", str(tmp_path / "libother.so"), *CASES, *QUICK) == 1
    said = capsys.readouterr().err
    assert "the peer against exited" in said
    assert "libother.so" in said
