"""What `coe doctor` says of the files that router and mapper decide by."""

from pathlib import Path

import pytest

from coe.local.doctor import Level
from coe.local.doctor.decisions import mapper_checks, router_check
from coe.mapper.bindings import FILE_NAME, write_bindings
from coe.mapper.mapping_file import PACKAGED, load_mapping
from coe.router import artifact


def test_the_packaged_files_are_fine(tmp_path: Path) -> None:
    checks = [router_check(tmp_path), *mapper_checks(tmp_path)]
    assert [(check.name, check.level) for check in checks] == [
        ("router artifact", Level.GOOD),
        ("mapping", Level.GOOD),
        (FILE_NAME, Level.GOOD),
    ]


def test_a_bundle_that_is_not_here_is_a_warning(tmp_path: Path) -> None:
    name = load_mapping(PACKAGED).pool[0].name
    write_bindings(tmp_path / FILE_NAME, {name: "nowhere"})
    check = mapper_checks(tmp_path)[-1]
    assert (check.level, check.found) == (Level.WARNING, f"{name} is to be answered by nowhere, which is not hosted")
    assert str(tmp_path / FILE_NAME) in check.fix


def test_a_router_artifact_that_breaks_the_start_is_named_with_the_mend(tmp_path: Path) -> None:
    trained = artifact.trained(tmp_path)
    trained.parent.mkdir()
    trained.write_bytes(artifact.packaged().read_bytes()[:5000])
    check = router_check(tmp_path)
    assert (check.name, check.level) == ("router artifact", Level.PROBLEM)
    assert check.found.startswith(f"{trained}: ")
    assert "coe train router" in check.fix


@pytest.mark.parametrize(
    ("file", "text", "name", "fix"),
    [
        # Whoever is told to remove his bindings for the sake of a damaged mapping loses them for nothing.
        ("artifacts/mapping.yaml", "format: 1\n", "mapping", "coe train mapping"),
        (FILE_NAME, "- a list\n", FILE_NAME, "let `coe up` create a new one"),
        (FILE_NAME, "a: b\n\tc: d\n", FILE_NAME, "let `coe up` create a new one"),
        ("budgets.yaml", "acme: []\n", "budgets.yaml", "prompts that name no budget"),
        ("budgets.yaml", "acme: cheap\n", "budgets.yaml", "prompts that name no budget"),
    ],
)
def test_the_file_at_fault_is_named_with_its_own_mend(
    tmp_path: Path, file: str, text: str, name: str, fix: str
) -> None:
    path = tmp_path / file
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    (check,) = mapper_checks(tmp_path)
    assert (check.name, check.level) == (name, Level.PROBLEM)
    assert check.found.startswith(f"{path}: ")
    assert "\n" not in check.found
    assert fix in check.fix
