"""The page of settings, their classes, and what each says of itself agree."""

import re
from pathlib import Path

import pytest

from coe.local.settings_docs import _PARTS, comments, markdown, settings

ROOT = Path(__file__).parents[3]


def test_the_page_is_current() -> None:
    assert (ROOT / "docs" / "settings.md").read_text() == markdown()


def test_every_class_of_settings_is_on_the_page() -> None:
    sources = (ROOT / "services" / "coe").rglob("*.py")
    kinds = {name for path in sources for name in re.findall(r"^class (\w+)\(Settings\)", path.read_text(), re.M)}
    assert {kind.__name__ for _, kind in _PARTS} == kinds


def test_what_commands_read_themselves_is_on_the_page() -> None:
    sources = [path for folder in ("services/coe/cli", "loadtest") for path in (ROOT / folder).rglob("*.py")]
    named = {name for path in sources for name in re.findall(r'envvar="(\w+)"', path.read_text())}
    assert named
    assert {name for name in named if f"`{name}`" not in markdown()} == set()


@pytest.mark.parametrize("kind", [kind for _, kind in _PARTS], ids=lambda kind: kind.__name__)
def test_every_setting_says_what_it_is(kind: type) -> None:
    assert [name for name, _, meaning in settings(kind) if not meaning] == []


def test_a_comment_is_of_the_setting_below_it() -> None:
    source = "class A:\n    # Of all.\n\n    # One,\n    # two.\n    a: int = 1\n    b: str = ''  # none\n"
    assert comments(source) == {"a": "One, two.", "b": ""}
