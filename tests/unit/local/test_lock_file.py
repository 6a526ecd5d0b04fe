"""The lock holds every requirement of pyproject.toml, at a version that satisfies it."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]


def test_the_lock_satisfies_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    pins = [line.split("==") for line in (ROOT / "requirements" / "lock.txt").read_text().splitlines() if "==" in line]
    locked = {canonicalize_name(name): version for name, version in pins}
    for requirement in (Requirement(text) for group in groups for text in group):
        version = locked.get(canonicalize_name(requirement.name))
        assert version is not None, f"{requirement.name} is not locked: make lock"
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}: make lock"
