"""Installs the peers in virtual environments in the user's cache, as they must not become our dependencies."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from coe.encoder.folders import cache_dir
from coe.platform.errors import Unavailable

# llama-cpp-python is a source distribution: its llama.cpp is compiled for this processor.
RUNTIMES = ("llama-cpp-python==0.3.36", "onnxruntime-genai==0.18.0", "onnxruntime==1.32.0", "numpy==2.4.6")
# What the model builder of onnxruntime-genai imports: 6 GB.
BUILDER = (
    "onnxruntime-genai==0.18.0",
    "onnxruntime==1.32.0",
    "onnx==1.23.2",
    "onnx-ir==1.1.0",
    "torch==2.15.0",
    "transformers==5.24.0",
    "safetensors==0.8.0",
)
INSTALL_TIMEOUT_S = 3600.0
# GCC 12 removes the tile configuration of llama.cpp's AMX kernels as dead stores, and they crash.
KEEP_STORES = "-fno-dse -fno-tree-dse"
BUILD_FLAGS = {"CMAKE_ARGS": "-DLLAVA_BUILD=OFF", "CFLAGS": KEEP_STORES, "CXXFLAGS": KEEP_STORES}
COMPLETE = "complete"

Say = Callable[[str], None]


def peers_folder() -> Path:
    """The folder of the environments and converted models, which can be deleted at any time."""
    return cache_dir("peers")


def runtimes(say: Say) -> Path:
    """Returns an interpreter with the peers, installed on first use. Raises Unavailable if that fails."""
    folder = peers_folder() / f"runtimes-{_digest(RUNTIMES)}"
    if not (folder / COMPLETE).exists():
        say(f"installing {', '.join(RUNTIMES)} in {folder}: llama.cpp is compiled, which takes some minutes")
        _make(folder, RUNTIMES)
    return _interpreter(folder)


@contextmanager
def builder(say: Say) -> Iterator[Path]:
    """Yields an interpreter with GenAI's model builder, and deletes its environment afterwards, as it is large."""
    folder = peers_folder() / f"builder-{_digest(BUILDER)}"
    if not (folder / COMPLETE).exists():
        say("installing the model builder of onnxruntime-genai for now: it needs 6 GB while it works")
        _make(folder, BUILDER)
    try:
        yield _interpreter(folder)
    finally:
        shutil.rmtree(folder)


def run(command: Sequence[str], log: Path, what: str, timeout_s: float, **environment: str) -> None:
    """Runs a setup step. Raises Unavailable, with the last line of its output, if it fails or takes too long."""
    with log.open("w") as output:
        try:
            done = subprocess.run(
                command, stdout=output, stderr=output, timeout=timeout_s, env=os.environ | environment, check=False
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(f"{what} took more than {timeout_s:.0f} s; its log is {log}") from None
    if done.returncode:
        said = log.read_text(errors="replace").strip().splitlines()
        raise Unavailable(f"{what} failed: {said[-1] if said else 'it said nothing'} (its log is {log})")


def _make(folder: Path, packages: tuple[str, ...]) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    log = folder.with_suffix(".log")
    run([sys.executable, "-m", "venv", str(folder)], log, "making a virtual environment", INSTALL_TIMEOUT_S)
    # No cache, as pip would reuse a wheel that was compiled with other flags.
    install = [str(_interpreter(folder)), "-m", "pip", "install", "--disable-pip-version-check", "--no-cache-dir"]
    run([*install, *packages], log, "installing the peers", INSTALL_TIMEOUT_S, **BUILD_FLAGS)
    (folder / COMPLETE).touch()


def _interpreter(folder: Path) -> Path:
    return folder / "bin" / "python"


def _digest(packages: tuple[str, ...]) -> str:
    return sha256(f"{packages} {sys.version_info[:2]}".encode()).hexdigest()[:12]
