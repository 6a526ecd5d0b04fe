"""What is on stdout of an answer that comes in pieces, and may begin anew."""

import sys

import pytest

from coe.cli.streamed import Streamed


def answered(*pieces: tuple[str, int], whole: str | None) -> None:
    streamed = Streamed()
    for text, attempt in pieces:
        streamed.add(text, attempt)
    streamed.end(whole)


def test_a_pipe_gets_the_answer_and_nothing_of_what_came_to_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    answered(("The deri", 1), ("The ", 2), ("derivative", 2), whole="The derivative")
    assert capsys.readouterr().out == "The derivative\n"


def test_a_pipe_gets_nothing_of_an_answer_that_broke_off(capsys: pytest.CaptureFixture[str]) -> None:
    answered(("The deri", 1), whole=None)
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_it_as_it_comes_and_is_told_that_it_begins_anew(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    answered(("The deri", 1), ("The ", 2), ("derivative", 2), whole="The derivative")
    said = capsys.readouterr()
    assert said.out == "The deriThe derivative\n"
    assert said.err.strip() == "the answer restarts"


def test_a_terminal_is_not_told_of_attempts_that_it_saw_nothing_of(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    answered(("Hello", 2), whole="Hello")
    said = capsys.readouterr()
    assert (said.out, said.err) == ("Hello\n", "")
