"""What a command says where it finds no stack."""

from pathlib import Path

import pytest

from coe.cli.servers import stack_hint
from coe.local.home import claimed


def test_a_stack_that_starts_is_not_one_to_be_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_HOME", str(tmp_path))
    assert "start one with `coe up`" in stack_hint(None)
    with claimed(tmp_path):
        assert "a stack starts here" in stack_hint(None)
    assert "start one with `coe up`" in stack_hint(None)
    assert stack_hint("127.0.0.1:7000") == ""
