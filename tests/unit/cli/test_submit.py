"""How the command line becomes prompts."""

from pathlib import Path

import pytest

from coe.cli.submit import read
from coe.platform.errors import InvalidPrompt


def test_text_becomes_one_prompt_with_the_options() -> None:
    (prompt,) = read("Hello", None, "expert", "economy", 7)
    assert (prompt.prompt, prompt.expert_id, prompt.budget.name, prompt.sampling.max_tokens) == (
        "Hello",
        "expert",
        "economy",
        7,
    )


def test_a_figure_as_budget_is_billions_of_parameters() -> None:
    (prompt,) = read("Hello", None, "", "31", 7)
    assert prompt.budget.active_params_b == 31


def test_a_prompt_whose_length_nobody_names_leaves_it_open() -> None:
    (prompt,) = read("Hello", None, "", "", None)
    assert not prompt.sampling.HasField("max_tokens")
    assert not prompt.HasField("budget")


def test_a_line_of_a_file_wins_over_the_options(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "a", "sampling": {"max_tokens": 3}, "expert_id": "own"}\n\n{"prompt": "b"}\n')
    first, second = read(None, file, "option", "", 7)
    assert (first.sampling.max_tokens, first.expert_id) == (3, "own")
    assert (second.sampling.max_tokens, second.expert_id) == (7, "option")


@pytest.mark.parametrize(
    "line",
    [
        '{"prompt": ',
        '{"promt": "typo"}',
        "[1]",
        '"text"',
        "[" * 100_000,
        '{"deadline_ms": ' + "9" * 5000,
        '{"prompt": "a", "sampling": {"max_tokens": 99999999999}}',
        '{"prompt": "\\ud800"}',
    ],
)
def test_a_line_that_is_no_prompt_is_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "fine"}\n' + line)
    with pytest.raises(InvalidPrompt, match=r"prompts\.jsonl, line 2: "):
        list(read(None, file, "", "", 7))


def test_a_byte_order_mark_and_line_ends_of_windows_are_no_part_of_a_prompt(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_bytes('{"prompt": "a"}\r\n{"prompt": "b"}\r\n'.encode("utf-8-sig"))
    assert [prompt.prompt for prompt in read(None, file, "", "", None)] == ["a", "b"]


def test_a_line_ends_with_a_line_feed_only(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "a\u2028b\x85"}\n', encoding="utf-8")
    assert [prompt.prompt for prompt in read(None, file, "", "", 7)] == ["a\u2028b\x85"]


@pytest.mark.parametrize("content", [b"", b"\n \n", b"\xff\xfe"])
def test_a_file_without_prompts_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_bytes(content)
    with pytest.raises(InvalidPrompt, match=r"no prompts|UTF-8"):
        list(read(None, file, "", "", 7))


def test_an_empty_prompt_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidPrompt, match="empty"):
        list(read(" ", None, "", "", 7))
    file = tmp_path / "prompts.jsonl"
    file.write_text('{"prompt": "fine"}\n{"prompt": ""}')
    with pytest.raises(InvalidPrompt, match="line 2: the prompt is empty"):
        list(read(None, file, "", "", 7))


def test_text_and_file_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(InvalidPrompt):
        list(read("Hello", tmp_path / "f", "", "", 7))
    with pytest.raises(InvalidPrompt):
        list(read(None, None, "", "", 7))
