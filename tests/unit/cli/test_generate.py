"""`coe generate` when the expert fails in the middle."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from coe.cli import generate
from coe.cli.main import main
from coe.experts.sequence import Emission
from coe.platform.errors import NumericalError

ERROR = NumericalError("no number")


class FailingRunner:
    """One token, then an error."""

    def __init__(self) -> None:
        self._emissions = [
            Emission("generate", "Hel", 1, 5, 1),
            Emission("generate", "", 0, 5, 1, finish_reason="error", final_text="Hel", error=ERROR),
        ]

    def add(self, *_: object) -> None:
        pass

    def step(self, lease: int) -> list[Emission]:
        return [self._emissions.pop(0)]


@pytest.fixture(autouse=True)
def failing(monkeypatch: pytest.MonkeyPatch) -> None:
    hosted = SimpleNamespace(runner=FailingRunner(), lease=1, wait_loaded=lambda: None)
    monkeypatch.setattr(generate, "find_expert", lambda expert: expert)
    monkeypatch.setattr(generate.Hosted, "load", lambda bundle, **_: nullcontext(hosted))


def test_the_error_is_said_and_the_status_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["generate", "--expert", "x", "Hello"])
    said = capsys.readouterr()
    assert ended.value.code == 1
    assert said.out == "Hel\n"
    assert said.err.endswith("coe: no number\n")


def test_a_schema_that_is_no_text_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    schema = tmp_path / "schema.json"
    schema.write_bytes(b"\xff{}")
    with pytest.raises(SystemExit) as ended:
        main(["generate", "--expert", "x", "--json-schema", str(schema), "Hello"])
    assert ended.value.code == 1
    assert "schema.json is not UTF-8 text" in capsys.readouterr().err


def test_a_schema_may_begin_with_a_byte_order_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    schema, given = tmp_path / "schema.json", list[str]()
    schema.write_text('{"type": "integer"}', encoding="utf-8-sig")
    monkeypatch.setattr(generate, "SamplingParams", lambda **params: given.append(params["json_schema"]))
    with pytest.raises(SystemExit):
        main(["generate", "--expert", "x", "--json-schema", str(schema), "Hello"])
    assert given == ['{"type": "integer"}']


def test_json_holds_the_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["generate", "--expert", "x", "--json", "Hello"])
    last = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert ended.value.code == 1
    assert last["finish_reason"] == "error"
    assert last["error"] == {"code": "numerical", "message": "no number"}
    assert last["text"] == "Hel"
