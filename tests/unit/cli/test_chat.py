"""What is typed into `coe chat`."""

import io

import pytest

from coe.cli import chat
from coe.platform.errors import InvalidPrompt


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
def test_bytes_that_are_no_text_are_said_and_asked_again(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, errors: str
) -> None:
    typed = io.TextIOWrapper(Slowly(b"\xff\n", b" hello\n"), encoding="utf-8", errors=errors)
    monkeypatch.setattr("sys.stdin", typed)
    assert [chat.ask(), chat.ask()] == ["hello", ""]
    assert capsys.readouterr().err == "invalid_prompt: what was typed is not UTF-8 text\n"


def test_a_key_is_shown_as_a_bearer_and_what_can_be_none_is_refused() -> None:
    assert chat.authorization("sk-1") == (("authorization", "Bearer sk-1"),)
    assert chat.authorization("") == ()
    for wrong in ("schlüssel", "sk-1\n"):
        with pytest.raises(InvalidPrompt, match="the API key has characters"):
            chat.authorization(wrong)


class Slowly(io.RawIOBase):
    """A line at a time, as a terminal gives them."""

    def __init__(self, *lines: bytes) -> None:
        self._lines = list(lines)

    def readable(self) -> bool:
        return True

    def read1(self, size: int = -1) -> bytes:
        return self._lines.pop(0) if self._lines else b""
