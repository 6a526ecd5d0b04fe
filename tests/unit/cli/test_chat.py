"""What is typed into `coe chat`."""

import io

import pytest

from coe.cli import chat


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_bytes_that_are_no_text_are_said_and_asked_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, errors: str
) -> None:
    typed = io.TextIOWrapper(Slowly(b"\xff\n", b" hello\n"), encoding="utf-8", errors=errors)
    monkeypatch.setattr("sys.stdin", typed)
    assert [chat.ask(), chat.ask()] == ["hello", ""]
    assert capsys.readouterr().err == "invalid_prompt: what was typed is no text in UTF-8\n"


class Slowly(io.RawIOBase):
    """A line at a time, as a terminal gives them."""

    def __init__(self, *lines: bytes) -> None:
        self._lines = list(lines)

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        return self._lines.pop(0) if self._lines else b""
