"""What a command says where it finds no stack."""

from pathlib import Path

import pytest

from coe.cli import servers
from coe.cli.servers import connect, stack_hint
from coe.local.home import claimed
from coe.platform.bus.memory import MemoryBus
from coe.platform.errors import DeadlineExceeded


def test_a_stack_that_starts_is_not_one_to_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_HOME", str(tmp_path))
    assert "start one with `coe up`" in stack_hint(None)
    with claimed(tmp_path):
        assert "a stack starts here" in stack_hint(None)
    assert "start one with `coe up`" in stack_hint(None)
    assert stack_hint("127.0.0.1:7000") == ""


async def test_whoever_waits_in_vain_hears_where_to_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "KafkaBus", lambda *_, **__: MemoryBus())
    with pytest.raises(DeadlineExceeded, match="no answer: `coe doctor --deploy` shows where prompts wait"):
        async with connect("127.0.0.1:9092"):
            raise DeadlineExceeded("no answer")
