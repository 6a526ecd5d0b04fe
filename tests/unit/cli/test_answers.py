"""What a prompt or an error says is printed as it is, whatever brackets it has."""

import pytest

from coe._proto import events_pb2
from coe.cli import answers
from coe.cli.answers import Answer, decision, figures, print_answer, trouble
from coe.platform.errors import ExpertNotFound

BRACKETS = "a[/red] b[bold] c[x] d\\"


def printed(answer: Answer) -> str:
    with answers.out.capture() as captured:
        print_answer(answer)
    return captured.get()


def test_brackets_of_prompt_and_answer_are_text() -> None:
    answer = Answer(events_pb2.PromptSubmitted(prompt=BRACKETS))
    answer.result.completion.text = "e[/bold]"
    shown = printed(answer)
    assert BRACKETS in shown
    assert "e[/bold]" in shown


def test_brackets_of_an_error_are_text() -> None:
    answer = Answer(events_pb2.PromptSubmitted(prompt="Hello"))
    answer.result.error.code, answer.result.error.message = "expert_not_found", f"no expert {BRACKETS!r}"
    assert f"expert_not_found: no expert {BRACKETS!r}" in printed(answer)


@pytest.mark.parametrize(("tokens", "rate"), [(11, 5), (1, 0), (0, 0)])
def test_the_rate_is_of_the_tokens_after_the_first(tokens: int, rate: int) -> None:
    answer = Answer(events_pb2.PromptSubmitted(prompt="Hello"))
    answer.result.usage.completion_tokens, answer.result.timings.decode_s = tokens, 2.0
    assert f"then {rate} tokens/s" in figures(answer.result)


@pytest.mark.parametrize("line", [trouble(ExpertNotFound(BRACKETS)), decision(BRACKETS, 0.5, BRACKETS)])
def test_lines_for_the_console_are_escaped(line: str) -> None:
    with answers.err.capture() as captured:
        answers.err.print(line)
    assert captured.get().count("a[/red] b[bold] c[x] d") >= 1
