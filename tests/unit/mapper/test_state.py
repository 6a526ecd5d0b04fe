"""Files are read again when they change, and a bad one never replaces a good one."""

import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from coe.mapper.bindings import FILE_NAME, read_bindings, write_bindings
from coe.mapper.mapping_file import PACKAGED, load_mapping
from coe.mapper.settings import MapperSettings
from coe.mapper.state import StateFiles
from coe.platform.errors import ArtifactError


def touch(path: Path) -> None:
    """A change that the clock's resolution can't hide."""
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))


@pytest.fixture
def files(tmp_path: Path) -> StateFiles:
    files = StateFiles(tmp_path, MapperSettings(experts=frozenset({"tiny"}), parts=False))
    files.load()
    return files


def test_the_packaged_mapping_serves_until_one_is_trained(files: StateFiles, tmp_path: Path) -> None:
    packaged = files.current.mapping.version
    assert not files.refresh()
    trained = tmp_path / "artifacts" / "mapping.yaml"
    trained.parent.mkdir()
    text = PACKAGED.read_text().replace(f"version: {packaged}\n", "").replace("prompts: 2350", "prompts: 1")
    trained.write_text(text)
    assert files.refresh()
    assert files.current.mapping.version != packaged


def test_a_bad_file_leaves_the_old_state(files: StateFiles, tmp_path: Path) -> None:
    before = files.current
    (tmp_path / FILE_NAME).write_text("- not\n- bindings\n")
    assert not files.refresh()
    assert files.current is before
    write_bindings(tmp_path / FILE_NAME, {"large": "tiny"})
    touch(tmp_path / FILE_NAME)
    assert files.refresh()
    assert files.current.hosted.bundle("large") == "tiny"


def test_a_candidate_that_breaks_holds_nothing_else_up(tmp_path: Path) -> None:
    candidate = tmp_path / "candidate.yaml"
    candidate.write_text(PACKAGED.read_text())
    files = StateFiles(tmp_path, MapperSettings(experts=frozenset({"tiny"}), candidate=candidate, parts=False))
    files.load()
    before = files.current.candidate
    candidate.write_text("- no mapping\n")
    write_bindings(tmp_path / FILE_NAME, {"large": "tiny"})
    assert files.refresh()
    assert files.current.hosted.bundle("large") == "tiny"
    assert files.current.candidate is before
    with pytest.raises(ArtifactError, match=r"candidate\.yaml"):
        StateFiles(tmp_path, MapperSettings(candidate=candidate, parts=False)).load()


def test_a_start_without_a_mapping_fails_clearly(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"none\.yaml|can't be read"):
        StateFiles(tmp_path, MapperSettings(mapping=tmp_path / "none.yaml")).load()


def test_a_binding_without_effect_is_said_and_taken(tmp_path: Path) -> None:
    first, second = [expert.name for expert in load_mapping(PACKAGED).pool][:2]
    write_bindings(tmp_path / FILE_NAME, {first: "tiny", second: "to-come", "misspelt": "tiny"})
    with capture_logs() as logs:
        files = StateFiles(tmp_path, MapperSettings(experts=frozenset({"tiny"}), parts=False))
        files.load()
    assert [line["reason"] for line in logs if line["event"] == "a binding has no effect"] == [
        f"{second} is to be answered by to-come, which is not hosted",
        "misspelt is no expert of the mapping",
    ]
    assert files.current.hosted.bundle(first) == "tiny"
    assert files.current.hosted.bundle(second) == ""


def test_a_mapping_of_which_nobody_answers_is_said(tmp_path: Path) -> None:
    with capture_logs() as logs:
        StateFiles(tmp_path, MapperSettings(experts=frozenset({"tiny"}), parts=False)).load()
    (line,) = [line for line in logs if line["event"] == "prompts are not routed"]
    assert line["reason"] == "no expert of the mapping has a bundle, so tiny answers whatever is asked"


def test_bindings_survive_a_round_trip(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    assert read_bindings(path) == {}
    write_bindings(path, {"Qwen/Qwen2-72B-Instruct": "tiny@replica-1"})
    assert read_bindings(path) == {"Qwen/Qwen2-72B-Instruct": "tiny@replica-1"}
