"""Print the folder that contains `onnxruntime_c_api.h`, downloading it into the build cache if needed.

ONNX Runtime's wheels have no C headers. Sources, in order: $COE_ORT_INCLUDE_DIR, the cache, the PyPI wheel `amd-quark`
(MIT, with ORT 1.17's headers), Debian trixie's `libonnxruntime-dev`. An op built with any of them loads in newer
runtimes: nothing is linked, and the API is requested by version when the library is registered.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

HEADER = "onnxruntime_c_api.h"
WHEEL = "amd-quark"
PACKAGE = "libonnxruntime-dev"
TIMEOUT_S = 300


def cache_dir() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "coe" / "ort-headers"


def folder_with_header(root: Path) -> Path | None:
    return next((path.parent for path in sorted(root.rglob(HEADER))), None)


def run(*command: str | Path, cwd: Path) -> None:
    subprocess.run([str(part) for part in command], cwd=cwd, check=True, timeout=TIMEOUT_S, stdout=sys.stderr)


def from_wheel(target: Path, scratch: Path) -> None:
    run(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", scratch, WHEEL, cwd=scratch)
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        names = [name for name in wheel.namelist() if name.endswith(".h") and "/core/session/" in name]
        for name in names:
            (target / Path(name).name).write_bytes(wheel.read(name))


def from_debian(target: Path, scratch: Path) -> None:
    """Downloads with a separate apt configuration: the machine's mirror, with the suite set to trixie."""
    source = trixie_source(Path("/etc/apt"))
    (scratch / "sources.list").write_text(source)
    for folder in ("lists/partial", "cache/archives/partial", "parts"):
        (scratch / folder).mkdir(parents=True)
    options = [
        f"-oDir::Etc::sourcelist={scratch / 'sources.list'}",
        f"-oDir::Etc::sourceparts={scratch / 'parts'}",
        f"-oDir::State::lists={scratch / 'lists'}",
        f"-oDir::Cache={scratch / 'cache'}",
        "-oAPT::Sandbox::User=",
    ]
    run("apt-get", *options, "-q", "update", cwd=scratch)
    run("apt-get", *options, "-q", "download", PACKAGE, cwd=scratch)
    run("dpkg-deb", "-x", next(scratch.glob("*.deb")), scratch / "unpacked", cwd=scratch)
    found = folder_with_header(scratch / "unpacked")
    if found is None:
        raise FileNotFoundError(HEADER)
    shutil.copytree(found, target, dirs_exist_ok=True)


def trixie_source(etc: Path) -> str:
    """A one-line apt source for trixie on the first Debian mirror that the machine uses."""
    lists = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    lines = [line.strip() for path in lists if path.is_file() for line in path.read_text().splitlines()]
    for line in lines:
        words = line.split()
        if words[:1] == ["deb"] or words[:1] == ["URIs:"]:
            mirror = next((w for w in words[1:] if "://" in w and "security" not in w), None)
            if mirror:
                return f"deb {mirror} trixie main\n"
    raise LookupError("no Debian mirror in the machine's apt sources")


def fetch(target: Path) -> Path:
    sources: dict[str, Callable[[Path, Path], None]] = {
        f"PyPI wheel {WHEEL}": from_wheel,
        f"Debian trixie's {PACKAGE}": from_debian,
    }
    for name, source in sources.items():
        with tempfile.TemporaryDirectory() as scratch:
            unpacked = Path(scratch) / "include"
            work = Path(scratch) / "work"
            unpacked.mkdir()
            work.mkdir()
            try:
                source(unpacked, work)
            except (OSError, LookupError, StopIteration, subprocess.SubprocessError, zipfile.BadZipFile) as error:
                print(f"ort_headers: {name} failed: {error}", file=sys.stderr)
                continue
            if (unpacked / HEADER).exists():
                target.mkdir(parents=True, exist_ok=True)
                shutil.copytree(unpacked, target, dirs_exist_ok=True)
                return target
    raise SystemExit(
        "ort_headers: no ONNX Runtime C headers. Either set COE_ORT_INCLUDE_DIR to a folder with "
        f"{HEADER}, or make the PyPI wheel {WHEEL} or Debian trixie's {PACKAGE} reachable."
    )


def main() -> None:
    given = os.environ.get("COE_ORT_INCLUDE_DIR")
    if given:
        if not (Path(given) / HEADER).exists():
            raise SystemExit(f"ort_headers: COE_ORT_INCLUDE_DIR={given} has no {HEADER}")
        print(given)
        return
    cached = cache_dir()
    print(cached if (cached / HEADER).exists() else fetch(cached))


if __name__ == "__main__":
    main()
