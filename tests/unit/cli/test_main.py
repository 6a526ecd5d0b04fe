"""The command table: every entry resolves, help is quick to reach, failures are one line."""

from importlib import import_module, metadata
from pathlib import Path

import pytest
import typer

from coe.cli import main as cli
from coe.platform.errors import ExpertNotFound


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_of_the_table_can_be_run(name: str) -> None:
    module = import_module(cli.COMMANDS[name][0])
    assert hasattr(module, "app") or hasattr(module, "command")


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    assert caught.value.code == 0
    printed = capsys.readouterr().out
    assert all(name in printed for name in cli.COMMANDS)


def test_an_error_of_ours_is_one_line_and_exit_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(arguments: list[str]) -> typer.Typer:
        raise ExpertNotFound("no expert 'x' is hosted")

    monkeypatch.setattr(cli, "build", broken)
    with pytest.raises(SystemExit) as caught:
        cli.main(["experts"])
    assert caught.value.code == 1
    assert capsys.readouterr().err == "coe: no expert 'x' is hosted\n"


def test_a_file_that_is_not_there_is_one_line_and_exit_status_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    missing = tmp_path / "prompts.jsonl"
    with pytest.raises(SystemExit) as caught:
        cli.main(["submit", "--file", str(missing)])
    assert caught.value.code == 1
    assert capsys.readouterr().err == f"coe: {missing}: No such file or directory\n"


def test_a_full_disk_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(arguments: list[str]) -> typer.Typer:
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")
        raise AssertionError

    monkeypatch.setattr(cli, "build", broken)
    with pytest.raises(SystemExit) as caught:
        cli.main(["up"])
    assert caught.value.code == 1
    assert capsys.readouterr().err == "coe: No space left on device\n"


def test_an_unknown_command_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["no-such-command"])
    assert caught.value.code == 2
    assert "no-such-command" in capsys.readouterr().err


def test_the_version_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"coe {metadata.version('composition-of-experts')}\n"


def test_help_of_a_command_says_all_that_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["submit", "--help"])
    printed = capsys.readouterr().out
    assert cli.COMMANDS["submit"][1] in printed
    assert "Exits with status 1" in printed


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["submit", "hi", "--kafka", "nowhere"], "coe: --kafka nowhere: must be HOST:PORT"),
        (["doctor", "--service", "a=b:1"], "coe: --service requires --deploy"),
        (["top", "--address", "nowhere"], "coe: --address nowhere: must be HOST:PORT"),
        (["chat", "--gateway", "nowhere"], "coe: --gateway nowhere: must be HOST:PORT"),
        (["submit", "hi", "--budget", "cheap"], "coe: --budget 'cheap': expected quality, balanced, economy"),
        (["submit", "hi", "--budget=-5"], "coe: --budget '-5': expected quality, balanced, economy, or billions"),
        (["submit", "hi", "--budget", "nan"], "coe: --budget 'nan': "),
        (["submit", "hi", "--expert", "\udcff"], "coe: --expert is not UTF-8 text"),
        (["submit", "\udcff"], "coe: the prompt is not UTF-8 text"),
        (["chat", "--expert", "\udcff"], "coe: --expert is not UTF-8 text"),
        (["generate", "\udcff", "--expert", "x"], "coe: the prompt is not UTF-8 text"),
        (["import", "pypi:"], "coe: pypi: needs a package name: pypi:PACKAGE"),
        (["generate", " ", "--expert", "x"], "coe: the prompt is empty"),
        (["simulate", "policies", "--policy", "luck"], "coe: unknown policy 'luck': must be one of fifo, "),
        (["simulate", "plan", "--policy", "luck"], "coe: unknown policy 'luck': must be one of fifo, "),
        (["simulate", "validate", "--policy", "luck"], "coe: unknown policy 'luck': must be one of fifo, "),
        (["simulate", "validate", "--traces", "zipf,luck"], "coe: unknown trace 'luck': must be one of zipf, "),
        (["simulate", "policies", "--machine", "luck"], "coe: unknown machine 'luck': must be one of host, "),
        (["bench", "schedule", "--links", "luck"], "coe: unknown link 'luck': must be one of host, "),
        (["bench", "schedule", "--traces", "luck"], "coe: unknown trace 'luck': must be one of zipf, "),
        (["bench", "schedule", "--policies", "luck"], "coe: unknown policy 'luck': must be one of fifo, "),
        (["bench", "first-token", "--links", "host,luck"], "coe: unknown link 'luck': must be one of host, "),
    ],
)
def test_a_slip_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith(said)
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", [["submit", "hi"], ["chat"], ["generate", "hi", "--expert", "x"]])
@pytest.mark.parametrize("tokens", ["0", "99999999999"])
def test_a_length_that_no_answer_has_is_wrong_usage(
    capsys: pytest.CaptureFixture[str], command: list[str], tokens: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main([*command, "--max-tokens", tokens])
    assert caught.value.code == 2
    assert "--max-tokens" in capsys.readouterr().err
