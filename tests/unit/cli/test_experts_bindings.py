"""`coe experts bindings`: what answers for the mapping's experts, and what binds nothing."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from coe.cli import experts_bindings
from coe.cli.main import main
from coe.mapper.mapping_file import PACKAGED, load_mapping

SMALL, LARGE = "Qwen/Qwen2-7B-Instruct", "Qwen/Qwen2-72B-Instruct"
DOCS = Path(__file__).parents[3] / "docs"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    hosted = SimpleNamespace(list=lambda: [SimpleNamespace(id=name) for name in ("mine", LARGE)])
    monkeypatch.setenv("COE_HOME", str(tmp_path))
    monkeypatch.setattr(experts_bindings, "catalogue", lambda: hosted)
    return tmp_path


def test_each_expert_has_the_bundle_that_answers(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = {SMALL: "mine", "google/gemma-2-9b-it": "gone", "typo": "mine"}
    (home / "bindings.yaml").write_text("".join(f"{name}: {bundle}\n" for name, bundle in lines.items()))
    with pytest.raises(SystemExit) as ended:
        main(["experts", "bindings", "--json"])
    assert ended.value.code == 0
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    answered = {row["mapped"]: row["bundle"] for row in rows if row["bundle"]}
    assert answered == {SMALL: "mine", LARGE: LARGE}
    assert "gemma-2-9b-it is to be answered by gone, which is not hosted" in said.err
    assert "typo is no expert of the mapping" in said.err


def test_without_a_file_the_table_names_the_whole_pool(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["experts", "bindings"])
    said = capsys.readouterr()
    assert all(expert.name in said.out for expert in load_mapping(PACKAGED).pool)
    assert said.err == ""


def test_bundles_of_which_none_answers_are_no_composition(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where somebody imported models of his own, and the mapping is the packaged one."""
    hosted = SimpleNamespace(list=lambda: [SimpleNamespace(id=name) for name in ("mine", "his")])
    monkeypatch.setattr(experts_bindings, "catalogue", lambda: hosted)
    with pytest.raises(SystemExit):
        main(["experts", "bindings"])
    assert "no expert of the mapping has a bundle, so his answers whatever is asked\n" in capsys.readouterr().err
    (home / "bindings.yaml").write_text(f"{SMALL}: mine\n")
    with pytest.raises(SystemExit):
        main(["experts", "bindings"])
    assert capsys.readouterr().err == ""


def test_the_mapping_is_the_one_that_the_mapper_has(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = PACKAGED.read_text().replace(SMALL, "mine/own").splitlines()
    (home / "own.yaml").write_text("\n".join(line for line in lines if not line.startswith("version:")))
    monkeypatch.setenv("COE_MAPPER_MAPPING", str(home / "own.yaml"))
    with pytest.raises(SystemExit):
        main(["experts", "bindings"])
    said = capsys.readouterr().out
    assert "mine/own" in said
    assert SMALL not in said


def test_the_page_names_the_packaged_pool() -> None:
    page = (DOCS / "experts.md").read_text()
    assert all(f"`{expert.name}`" in page for expert in load_mapping(PACKAGED).pool)
