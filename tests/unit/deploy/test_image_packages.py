"""Every image has what its process imports: the process starts where nothing else can be imported."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[3]
LISTS = ROOT / "requirements" / "images"
# Taken out by compose/slim.sh.
REMOVED = {"hf-xet", "pip", "setuptools"}
MODULES = {
    "gateway": "coe.gateway.service",
    "mapper": "coe.mapper.service",
    "memory-tier-manager": "coe.memory_tier_manager.service",
    "expert-worker": "coe.expert_worker.service",
    "router": "coe.router.service",
    "prepare": "coe.local.prepare",
    "load": "loadtest.__main__",
}
# What the runbook runs beside the services.
_NAMES = ("main", "doctor", "experts", "top", "dead_letters", "cancel")
COMMANDS = [("memory-tier-manager", f"coe.cli.{name}") for name in _NAMES]
START = """
import importlib, sys
forbidden = set(sys.argv[2].split(","))

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in forbidden:
            raise ModuleNotFoundError(f"{name} is not in the image", name=name)

sys.meta_path.insert(0, Finder())
importlib.import_module(sys.argv[1])
import coe.local.probe
"""


def listed(name: str) -> list[Requirement]:
    found = []
    for line in (LISTS / f"{name}.txt").read_text().splitlines():
        if line.startswith("-r "):
            found += listed(line.removeprefix("-r ").removesuffix(".txt"))
        elif line and not line.startswith("#"):
            found.append(Requirement(line))
    return found


def closure(requirements: list[Requirement]) -> set[str]:
    """Names of all distributions that pip installs for them."""
    found: set[str] = set()
    waiting = [(one.name, extra) for one in requirements for extra in (one.extras or {""})]
    seen: set[tuple[str, str]] = set()
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen or canonicalize_name(name) in REMOVED:
            continue
        seen.add((name, extra))
        found.add(canonicalize_name(name))
        for text in distribution(name).requires or ():
            inner = Requirement(text)
            if inner.marker is None or inner.marker.evaluate({"extra": extra}):
                waiting += [(inner.name, more) for more in (inner.extras or {""})]
    return found


def test_lists_name_dependencies_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *project["optional-dependencies"]["load"],
        *project["optional-dependencies"]["train"],
    ]
    wanted = {canonicalize_name(Requirement(text).name) for text in asked}
    for path in LISTS.glob("*.txt"):
        extra = {canonicalize_name(one.name) for one in listed(path.stem)} - wanted
        assert not extra, f"{path.name}: pyproject.toml does not ask for {extra}"


@pytest.mark.parametrize(("target", "module"), [*MODULES.items(), *COMMANDS])
def test_a_process_starts_with_the_packages_of_its_image(target: str, module: str) -> None:
    dockerfile = (ROOT / "compose" / "Dockerfile").read_text()
    base = re.search(rf"^FROM (\w+) AS {target}$", dockerfile, re.MULTILINE)
    assert base is not None
    allowed = closure(listed(base[1])) | {"composition-of-experts"}
    forbidden = {
        module
        for module, owners in packages_distributions().items()
        if not allowed & {canonicalize_name(owner) for owner in owners}
    } - {"coe"}
    command = [sys.executable, "-c", START, module, ",".join(sorted(forbidden))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=90)
    assert done.returncode == 0, done.stderr[-1500:]
