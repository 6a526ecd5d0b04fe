"""What is made anew when something changes."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SERVICES = ROOT / "services" / "coe"


def test_wheels_of_images_are_built_anew_for_every_file_that_they_hold() -> None:
    known = subprocess.run(["make", "-pnq", "wheelhouse"], cwd=ROOT, capture_output=True, text=True, check=False)
    (rule,) = (line for line in known.stdout.splitlines() if line.startswith(".stamps/wheelhouse: "))
    held = [
        path for path in SERVICES.rglob("*") if path.suffix in (".py", ".yaml", ".safetensors", ".xml", ".html", ".cc")
    ]
    assert {str(path.relative_to(ROOT)) for path in held} <= set(rule.split())
