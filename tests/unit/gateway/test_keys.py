"""API keys: who may call, and as which tenant."""

from pathlib import Path

import pytest

from coe.gateway.keys import ApiKeys
from coe.platform.errors import ArtifactError, Unauthenticated


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys.yaml"
    path.write_text("acme: sk-1\nlabs: [sk-2, sk-3]\n")
    return path


def loaded(path: Path | None) -> ApiKeys:
    keys = ApiKeys(path)
    keys.load()
    return keys


def test_a_key_is_its_tenants(file: Path) -> None:
    keys = loaded(file)
    asked = ("Bearer sk-1", "bearer sk-2", "Bearer  sk-3 ")
    assert [keys.tenant(text) for text in asked] == ["acme", "labs", "labs"]


@pytest.mark.parametrize(
    "shown", [None, "", "Bearer", "Bearer ", "sk-1", "Basic sk-1", "Bearer sk-4", "Bearer schlüssel"]
)
def test_nobody_else_may_call(file: Path, shown: str | None) -> None:
    with pytest.raises(Unauthenticated):
        loaded(file).tenant(shown)


def test_without_a_file_everybody_may() -> None:
    keys = loaded(None)
    keys.refresh()
    assert keys.tenant(None) is keys.tenant("Bearer anything") is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "must map"),
        ("[sk-1]", "must map"),
        ("acme: 7", "keys that are text"),
        ("acme: ''", "keys that are text"),
        ("acme: [[sk-1]]", "keys that are text"),
        ("acme: sk-1\nlabs: sk-1", "another tenant"),
        ("acme: [sk-secret", "is no YAML"),
        ("acme: sk-1\nacme: sk-2", "two lines for one tenant"),
        ("7: sk-1", "name tenants by text"),
        ("a/b: sk-1", "without a slash"),
        ("acme: 2024-13-45", "is no YAML"),
        ("acme: !!bool sk-1", "is no YAML"),
        ("acme: !!timestamp sk-1", "is no YAML"),
        (f"acme: {'[' * 5000}sk-1", "is no YAML"),
    ],
)
def test_a_file_that_can_not_be_used_is_refused_without_its_keys(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(ArtifactError, match=says) as caught:
        loaded(file)
    assert "sk-" not in caught.value.message


def test_a_changed_file_is_read_again_and_a_broken_one_changes_nothing(file: Path) -> None:
    keys = loaded(file)
    file.write_text("acme: sk-another")
    keys.refresh()
    assert keys.tenant("Bearer sk-another") == "acme"
    with pytest.raises(Unauthenticated):
        keys.tenant("Bearer sk-1")
    for broken in (lambda: file.write_text("no mapping"), file.unlink):
        broken()
        keys.refresh()
        assert keys.tenant("Bearer sk-another") == "acme"
