"""What CONTRIBUTING.md says of imports."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVICES = Path(__file__).resolve().parents[3] / "services"
NAMES = ("router", "mapper", "memory_tier_manager", "expert_worker", "gateway")
# The modules of docs/memory-and-scheduling.md that decide.
_TIERS = ("core", "admission", "upkeep", "weights", "hbm", "ddr", "extents", "budget", "parts", "eviction", "leases")
POLICIES = [
    *sorted((SERVICES / "coe" / "scheduling").glob("*.py")),
    *(SERVICES / "coe" / "memory_tier_manager" / f"{name}.py" for name in (*_TIERS, "forecast", "state")),
]
# A clock, I/O, or a log.
IMPURE = {"asyncio", "logging", "os", "pathlib", "socket", "threading", "time", "coe.platform.logs", "coe.platform.bus"}


def imported(path: Path) -> Iterator[str]:
    """Modules, and what is taken from them as if it were one."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("service", NAMES)
def test_services_never_import_each_other(service: str) -> None:
    others = tuple(f"coe.{name}." for name in NAMES if name != service)
    found = {
        f"{path.name}: {name}"
        for path in (SERVICES / "coe" / service).rglob("*.py")
        for name in imported(path)
        if f"{name}.".startswith(others)
    }
    assert found == set()


@pytest.mark.parametrize("policy", POLICIES, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_policies_are_pure(policy: Path) -> None:
    assert IMPURE.isdisjoint(imported(policy))
