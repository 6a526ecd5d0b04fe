"""What `coe doctor` says of bindings.yaml."""

from pathlib import Path

from coe.local.doctor import Level
from coe.local.doctor.experts import bindings_check
from coe.mapper.bindings import FILE_NAME, write_bindings
from coe.mapper.mapping_file import PACKAGED, load_mapping


def test_no_file_is_fine(tmp_path: Path) -> None:
    assert bindings_check(tmp_path).level is Level.GOOD


def test_a_bundle_that_is_not_here_is_a_warning(tmp_path: Path) -> None:
    name = load_mapping(PACKAGED).pool[0].name
    write_bindings(tmp_path / FILE_NAME, {name: "nowhere"})
    check = bindings_check(tmp_path)
    assert (check.level, check.found) == (Level.WARNING, f"{name} is to be answered by nowhere, which is not hosted")
    assert str(tmp_path / FILE_NAME) in check.mend


def test_a_damaged_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("- a list\n")
    check = bindings_check(tmp_path)
    assert check.level is Level.PROBLEM
    assert "must map names" in check.found
