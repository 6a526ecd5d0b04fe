"""What targets do, and what is made anew when something changes."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SERVICES = ROOT / "services" / "coe"


def test_wheels_of_images_are_built_anew_for_every_file_that_they_hold() -> None:
    known = subprocess.run(["make", "-pnq", "wheelhouse"], cwd=ROOT, capture_output=True, text=True, check=False)
    (rule,) = (line for line in known.stdout.splitlines() if line.startswith(".stamps/wheelhouse: "))
    held = [
        path for path in SERVICES.rglob("*") if path.suffix in (".py", ".yaml", ".safetensors", ".xml", ".html", ".cc")
    ]
    assert {str(path.relative_to(ROOT)) for path in held} <= set(rule.split())


@pytest.mark.parametrize(("arguments", "does"), [([], "bench --help"), (["NAME=switch"], "bench switch --json")])
def test_a_bench_without_a_name_shows_which_there_are(arguments: list[str], does: str) -> None:
    command = ["make", "--just-print", "--assume-old=setup", "bench", *arguments]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert printed.rstrip().endswith(f"coe {does}")
