"""Child processes end as promised, whatever happens to who started them."""

import asyncio
import os
import select
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from coe.local.process import Child, last_words
from coe.local.readiness import until_ready
from coe.platform.errors import Unavailable

_PYTHON = sys.executable
_DEADLINE_S = 20.0
# A parent that starts a stubborn child, tells its pid, and then waits.
_PARENT = """
import sys, signal
from pathlib import Path
from types import SimpleNamespace
from coe.local.process import Child
child = Child("stubborn", [sys.executable, "-c", sys.argv[2]], log=Path(sys.argv[1]))
child.start()
print(child.pid, flush=True)
signal.pause()
"""
_STUBBORN = (
    "import signal; [signal.signal(s, signal.SIG_IGN) for s in (2, 15)]; print('up', flush=True); signal.pause()"
)


async def _true() -> bool:
    return True


async def _false() -> bool:
    return False


async def test_a_child_gets_the_environment_and_writes_its_log(tmp_path: Path) -> None:
    code = "import os; print(os.environ['GREETING'])"
    child = Child("greeter", [_PYTHON, "-c", code], log=tmp_path / "logs" / "log", env={"GREETING": "hello"})
    child.start()
    assert await asyncio.wait_for(child.wait(), _DEADLINE_S) == 0
    assert child.log_tail() == "hello"


async def test_stop_asks_first(tmp_path: Path) -> None:
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); print('up', flush=True); signal.pause()"
    child = Child("polite", [_PYTHON, "-c", code], log=tmp_path / "log")
    child.start()
    await until_ready(child, lambda: _wrote(child, "up"), _DEADLINE_S)
    await child.stop()
    assert child.returncode == 7


async def test_stop_forces_what_does_not_listen(tmp_path: Path) -> None:
    child = Child("stubborn", [_PYTHON, "-c", _STUBBORN], log=tmp_path / "log", grace_s=0.1)
    child.start()
    await until_ready(child, lambda: _wrote(child, "up"), _DEADLINE_S)
    await child.stop()
    assert child.returncode == -signal.SIGKILL
    await child.stop()  # harmless


async def test_readiness_ends_with_the_process_and_shows_its_log(tmp_path: Path) -> None:
    child = Child("broken", [_PYTHON, "-c", "raise SystemExit('no such thing')"], log=tmp_path / "log")
    child.start()
    with pytest.raises(Unavailable, match=r"status 1 while starting.*\nno such thing"):
        await until_ready(child, _false, _DEADLINE_S)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("coe: COE_TIERS_HBM_BYTES: too small", "COE_TIERS_HBM_BYTES: too small"),
        ('{"event": "the service ended", "reason": "it is\\n no YAML"}', "it is no YAML"),
        ('{"event": "the service failed", "reason": "KeyError: 1"}', "KeyError: 1"),
    ],
)
async def test_a_service_that_says_why_it_ended_is_quoted(line: str, said: str, tmp_path: Path) -> None:
    child = Child(
        "service", [_PYTHON, "-c", f"print('before', flush=True); raise SystemExit({line!r})"], log=tmp_path / "log"
    )
    child.start()
    with pytest.raises(Unavailable) as raised:
        await until_ready(child, _false, _DEADLINE_S)
    assert raised.value.message == f"service ended with status 1 while starting: {said}; its log: {child.log}"


@pytest.mark.parametrize("line", ['{"event": "retries", "reason": "the broker is away"}', "[1]", "{", "killed", ""])
def test_other_lines_do_not_say_why_a_service_ended(line: str) -> None:
    assert last_words(f"coe: long ago\n{line}") == ""


async def test_an_end_on_a_full_disk_is_laid_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a broker, whose last lines name what else went wrong then."""
    child = Child("kafka", [_PYTHON, "-c", "raise SystemExit('Stopping serving replicas')"], log=tmp_path / "log")
    child.start()
    await child.wait()
    assert child.why_ended() == ""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4096))
    with pytest.raises(Unavailable) as raised:
        await until_ready(child, _false, _DEADLINE_S)
    full = f"the disk of {tmp_path} is full"
    assert raised.value.message == f"kafka ended with status 1 while starting: {full}; its log: {child.log}"


async def test_a_kill_that_nobody_here_sent_may_be_the_kernels(tmp_path: Path) -> None:
    child = Child("worker", [_PYTHON, "-c", "import os; os.kill(os.getpid(), 9)"], log=tmp_path / "log")
    child.start()
    await child.wait()
    assert "memory" in child.why_ended()
    child = Child("worker", [_PYTHON, "-c", "import os; os.kill(os.getpid(), 15)"], log=tmp_path / "log")
    child.start()
    await child.wait()
    assert child.why_ended() == ""


async def test_readiness_has_a_deadline(tmp_path: Path) -> None:
    child = Child("silent", [_PYTHON, "-c", _STUBBORN], log=tmp_path / "log", grace_s=0)
    child.start()
    with pytest.raises(Unavailable, match="not ready within 0 s"):
        await until_ready(child, _false, 0.1)
    await until_ready(child, _true, _DEADLINE_S)
    await child.stop()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_child_outlives_its_parent(tmp_path: Path, number: signal.Signals) -> None:
    arguments = [_PYTHON, "-c", _PARENT, str(tmp_path / "log"), _STUBBORN]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        assert parent.stdout is not None
        descriptor = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.send_signal(number)
            readable, _, _ = select.select([descriptor], [], [], _DEADLINE_S)
        finally:
            os.close(descriptor)
    assert readable, "the child still runs"


async def _wrote(child: Child, text: str) -> bool:
    return text in child.log_tail()
