"""The doctor finds what is missing and suggests a fix."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from coe.cli import doctor as command
from coe.local import doctor
from coe.local.doctor import Check, Level, machine
from coe.local.doctor.home import home_check
from coe.local.doctor.machine import huge_pages, open_files
from coe.local.doctor.misspelt import misspelt_check
from coe.local.doctor.software import software_checks, version_of


def program(folder: Path, name: str, prints: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\nprintf '{prints}'\n")
    path.chmod(0o755)


@pytest.mark.parametrize(
    ("prints", "version"),
    [
        ("g++ (Debian 12.2.0-14) 12.2.0", (12, 2, 0)),
        (r'openjdk version "17.0.15" 2025-04-15', (17, 0, 15)),
        (r"\033[1mApache Maven 3.8.7\033[m", (3, 8, 7)),
        ("setpriv from util-linux 2.38.1", (2, 38, 1)),
        ("nothing of the kind", ()),
    ],
)
def test_versions_are_read_off_what_programs_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prints: str, version: tuple[int, ...]
) -> None:
    program(tmp_path, "tool", prints)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert version_of("tool") == version


def test_missing_and_old_programs_have_a_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, "java", "openjdk version 11.0.1")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    checks = {check.name: check for check in software_checks()}
    assert checks["java"] == Check(
        "java", Level.PROBLEM, "11.0.1", "17 or newer is needed: apt-get install openjdk-17-jre-headless"
    )
    assert checks["mvn"] == Check("mvn", Level.WARNING, "missing", "apt-get install maven")
    assert checks["Kafka"].level is Level.WARNING


def test_the_java_that_is_looked_at_is_the_one_that_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "old" / "bin").mkdir(parents=True)
    program(tmp_path / "old" / "bin", "java", "openjdk version 11.0.1")
    program(tmp_path, "java", "openjdk version 17.0.1")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "old"))
    (check,) = (check for check in software_checks() if check.name == "java")
    assert (check.level, check.found) == (Level.PROBLEM, "11.0.1")
    assert "JAVA_HOME" in check.fix
    monkeypatch.setenv("JAVA_HOME", "")
    (check,) = (check for check in software_checks() if check.name == "java")
    assert (check.level, check.found) == (Level.GOOD, "17.0.1")


@pytest.mark.parametrize(
    ("mode", "release", "level"),
    [
        ("advise", "5.10.0-28-amd64", Level.GOOD),
        ("never", "6.1.0-13-amd64", Level.GOOD),
        ("never", "5.15.167.4-microsoft-standard-WSL2", Level.WARNING),
        ("deny", "6.8.0", Level.WARNING),
    ],
)
def test_huge_pages_are_had_from_the_system_or_by_asking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, release: str, level: Level
) -> None:
    modes = tmp_path / "shmem_enabled"
    modes.write_text("always within_size advise never deny force\n".replace(mode, f"[{mode}]"))
    monkeypatch.setattr(machine, "_SHARED_HUGE_PAGES", modes)
    monkeypatch.setattr(machine.platform, "release", lambda: release)
    assert huge_pages().level is level


@pytest.mark.parametrize(
    ("limits", "level"), [((1024, 524288), Level.GOOD), ((1024, 1024), Level.WARNING), ((4096, 4096), Level.GOOD)]
)
def test_a_low_limit_of_open_files_is_one_that_nobody_can_raise(
    monkeypatch: pytest.MonkeyPatch, limits: tuple[int, int], level: Level
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _what: limits)
    check = open_files()
    assert (check.level, check.found) == (level, str(limits[1]))


_CAP_IPC_LOCK = 14
_LOCKS = """
import resource
from coe.local.doctor.home import home_check
from coe.local.doctor.machine import can_lock
resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))
print(can_lock(4096), can_lock(2**30))
"""


@pytest.mark.parametrize("privileged", [True, False])
def test_locked_memory_is_what_limit_and_privileges_allow_together(privileged: bool) -> None:
    """Root's limit is low in most places, and binds nobody who has CAP_IPC_LOCK."""
    held = bool(int(Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0], 16) >> _CAP_IPC_LOCK & 1)
    if privileged and not held:
        pytest.skip("CAP_IPC_LOCK is not ours")
    without = ["setpriv", "--bounding-set=-ipc_lock", "--inh-caps=-ipc_lock"] if held and not privileged else []
    done = subprocess.run([*without, sys.executable, "-c", _LOCKS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", str(privileged)]


def test_a_setting_that_is_misspelt_is_named() -> None:
    check = misspelt_check(["COE_STACK_WROKERS", "COE_WORKER_THREADS", "COE_GATEWAY", "COE_TEST_SOAK", "PATH"])
    assert check.level is Level.WARNING
    assert check.found == "COE_STACK_WROKERS is not a setting; did you mean COE_STACK_WORKERS?"
    assert misspelt_check(["COE_NATIVE_ISA", "COE_KAFKA_SASL_PASSWORD_FILE"]).level is Level.GOOD


def test_a_home_that_is_no_folder_is_found_before_it_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "home"
    file.touch()
    monkeypatch.setenv("COE_HOME", str(file))
    last = doctor.examine()[-1]
    assert (last.name, last.level, last.found) == ("COE_HOME", Level.PROBLEM, f"{file} is not a folder")


@pytest.mark.parametrize(("closed", "fix"), [("home/run", "chown -R {} {}, or "), ("", "")])
def test_a_home_that_is_not_ours_is_found_before_it_is_looked_into(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed: str, fix: str
) -> None:
    (tmp_path / closed).mkdir(parents=True, exist_ok=True)
    # Root may do all that rights forbid.
    access, used = os.access, os.R_OK | os.W_OK | os.X_OK
    monkeypatch.setattr(
        os, "access", lambda path, mode: access(path, mode) and (path, mode) != (tmp_path / closed, used)
    )
    check = home_check(tmp_path / "home")
    assert (check.level, check.found) == (Level.PROBLEM, f"{tmp_path / closed} is not writable")
    assert check.fix == fix.format(os.geteuid(), tmp_path / closed) + "set COE_HOME to another folder"


def test_every_finding_that_is_not_good_says_the_mend() -> None:
    checks = doctor.examine()
    assert all(bool(check.fix) == (check.level is not Level.GOOD) for check in checks)
    assert len({check.name for check in checks}) == len(checks)


def test_problems_make_the_command_fail(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(command, "examine", lambda: [Check("a", Level.GOOD, "1"), Check("b", Level.PROBLEM, "2", "3")])
    with pytest.raises(SystemExit, match="1"):
        command.command(as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines[1] == {"name": "b", "level": "problem", "found": "2", "fix": "3"}
