"""Files that people write: what is wrong with one is a line, and nothing that ends the mapper."""

from pathlib import Path

import pytest

from coe.mapper.bindings import read_bindings
from coe.mapper.pool import read_pool
from coe.mapper.tenants import read_budgets
from coe.mapper.yaml_file import parse_yaml, read_yaml
from coe.platform.errors import ArtifactError


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: b\nc: [1\n", r"^not YAML: expected ',' or '\]', but got '<stream end>', line 3$"),
        ("a: 2024-13-01\n", r"^not YAML: month must be in 1..12"),
        ("a: \0\n", r"^not YAML: unacceptable character .*$"),
        ("[" * 5000, "^not YAML: "),
    ],
)
def test_what_is_wrong_is_one_line(text: str, message: str) -> None:
    with pytest.raises(ArtifactError, match=message) as raised:
        parse_yaml(text)
    assert "\n" not in raised.value.message


@pytest.mark.parametrize("read", [read_yaml, read_bindings, read_budgets, read_pool])
@pytest.mark.parametrize("data", [b"a: [", b"a: caf\xe9"])
def test_the_file_is_named(tmp_path: Path, read: object, data: bytes) -> None:
    path = tmp_path / "mine.yaml"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=r"^mine\.yaml can't be read: "):
        read(path)  # type: ignore[operator]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"^can't read .*mine\.yaml: No such file or directory$"):
        read_yaml(tmp_path / "mine.yaml")
