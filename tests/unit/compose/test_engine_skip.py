"""When the container test may skip: only when the machine can't run an engine, never when something of ours fails."""

import subprocess
from pathlib import Path

import pytest

ENGINE = Path(__file__).resolve().parents[3] / "compose" / "test" / "engine.sh"


def bash(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["bash", "-euo", "pipefail", "-c", f'. "{ENGINE}"\n{script}', "bash", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30)


def judged(log: Path) -> str:
    """The reason to skip that a container's or the engine's log gives; empty: none."""
    found = bash('kernel_refused "$1" >&2 || true; printf %s "$skip"', str(log))
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.parametrize(
    "line",
    [
        'level=error msg="failed to mount overlay: operation not permitted"',
        "failed to start daemon: Devices cgroup isn't mounted: not mounted",
        "docker: Error response from daemon: OCI runtime create failed: unshare: Function not implemented: unknown.",
    ],
)
def test_what_the_kernel_refuses_is_a_reason(tmp_path: Path, line: str) -> None:
    (log := tmp_path / "log").write_text(f"level=info msg=starting\n{line}\n")
    assert judged(log) == f"the kernel does not allow a container engine: {line}"


@pytest.mark.parametrize(
    "line", ["docker: Error response from daemon: No such image: coe-base:bookworm.", "unknown flag: --bridge", ""]
)
def test_what_is_ours_is_none(tmp_path: Path, line: str) -> None:
    (log := tmp_path / "log").write_text(f"level=info msg=starting\n{line}\n")
    assert judged(log) == ""


def test_only_root_may() -> None:
    found = bash('id() { echo 1000; }\nkernel_allows || printf %s "$skip"')
    assert (found.returncode, found.stdout) == (0, "a container engine needs root")


def test_an_engine_that_a_package_lacks_fails(tmp_path: Path) -> None:
    """No reason is left behind when the installation itself fails."""
    script = """
        state=$1
        command() { case "$2" in apt-get) return 0 ;; *) return 1 ;; esac; }
        apt-get() { echo "no such package"; [ "$1" = update ]; }
        engine_install >&2 && echo installed || printf 'failed, skip=%s' "$skip"
    """
    found = bash(script, str(tmp_path))
    assert (found.returncode, found.stdout) == (0, "failed, skip="), found.stderr
