"""What `coe up` says of a start that fails."""

from collections.abc import Callable
from pathlib import Path
from typing import Self

import pytest

from coe.cli import up
from coe.cli.main import main
from coe.local.restart import NEVER
from coe.local.stackfile import StackInfo
from coe.local.supervisor import State, Supervised
from coe.local.valkey import ValkeyServer
from coe.platform.errors import Unavailable

WHY = "Java 17 is missing"


def test_why_it_failed_is_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Failing:
        def __init__(self, _options: object, *, on_change: Callable[[Supervised], None], **_: object) -> None:
            self._failed = Supervised(
                "kafka", ValkeyServer(tmp_path), address="", restarts=NEVER, on_change=lambda _: None
            )
            self._on_change = on_change
            self.processes = [self._failed]

        async def __aenter__(self) -> Self:
            self._failed.state, self._failed.trouble = State.FAILED, WHY
            self._on_change(self._failed)
            raise Unavailable(WHY)

        async def __aexit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(up, "Stack", Failing)
    with pytest.raises(SystemExit) as ended:
        main(["up"])
    assert ended.value.code == 1
    assert capsys.readouterr().err == f"kafka: failed\ncoe: {WHY}\n"


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_nobody_reads_the_password_of_redis(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, form: list[str]
) -> None:
    class Ready:
        home = tmp_path
        info = StackInfo(str(tmp_path), "127.0.0.1:9092", "redis://user:secret@cache:6379/0", "127.0.0.1:7000", "")

        def __init__(self, _options: object, **_: object) -> None:
            self.processes: list[Supervised] = []

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

        async def run_until_failed(self) -> None:
            raise Unavailable(WHY)

    monkeypatch.setattr(up, "Stack", Ready)
    with pytest.raises(SystemExit):
        main(["up", *form])
    said = "".join(capsys.readouterr())
    assert "redis://cache:6379/0" in said
    assert "secret" not in said
