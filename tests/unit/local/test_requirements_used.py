"""Every package that the distribution asks for is one that it imports: others weigh on who installs it."""

import ast
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]


def imported() -> set[str]:
    names = set()
    for path in (ROOT / "services" / "coe").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.partition(".")[0])
    return names


def test_every_requirement_is_imported() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    brought_by = packages_distributions()
    used = {canonicalize_name(name) for module in imported() for name in brought_by.get(module, ())}
    assert {canonicalize_name(Requirement(text).name) for text in asked} - used == set()
