"""What the router accepts and which text it looks at."""

import pytest

from coe._proto.common_pb2 import ChatMessage, Tool
from coe._proto.events_pb2 import PromptSubmitted
from coe.platform.errors import InvalidPrompt, PromptTooLarge
from coe.platform.prompts import MAX_MESSAGES
from coe.router.prompt import classified_text, validate


def message(role: str, content: str) -> ChatMessage:
    return ChatMessage(role=role, content=content)


@pytest.mark.parametrize(
    "prompt",
    [
        PromptSubmitted(request_id="r", prompt="hello"),
        PromptSubmitted(request_id="r", messages=[message("system", "be brief"), message("user", "hello")]),
    ],
)
def test_accepted(prompt: PromptSubmitted) -> None:
    validate(prompt, max_bytes=100)


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        (PromptSubmitted(prompt="hello"), "request_id"),
        (PromptSubmitted(request_id="r", prompt="hello", messages=[message("user", "hello")]), "not both"),
        (PromptSubmitted(request_id="r", messages=[message("critic", "hello")]), "role"),
        (PromptSubmitted(request_id="r", messages=[message("assistant", "hello")]), "last message"),
        (PromptSubmitted(request_id="r"), "empty"),
    ],
)
def test_refused(prompt: PromptSubmitted, reason: str) -> None:
    with pytest.raises(InvalidPrompt, match=reason):
        validate(prompt, max_bytes=100)


def test_a_conversation_has_a_greatest_length() -> None:
    turn = message("user", "a")
    validate(PromptSubmitted(request_id="r", messages=[turn] * MAX_MESSAGES), max_bytes=10_000)
    with pytest.raises(PromptTooLarge, match="messages"):
        validate(PromptSubmitted(request_id="r", messages=[turn] * (MAX_MESSAGES + 1)), max_bytes=10_000)


def test_size_is_counted_in_bytes_over_all_text() -> None:
    validate(PromptSubmitted(request_id="r", prompt="é" * 50), max_bytes=100)
    turns = [message("user", "é" * 30), message("assistant", "é" * 10), message("user", "é" * 11)]
    with pytest.raises(PromptTooLarge, match="102 bytes"):
        validate(PromptSubmitted(request_id="r", messages=turns), max_bytes=100)


def test_a_conversation_is_read_from_its_end() -> None:
    turns = [
        message("system", "You are a poet."),
        message("user", "Sort a list in Python."),
        message("assistant", "sorted(x)"),
        message("user", " and in Rust? "),
    ]
    assert classified_text("", turns) == "and in Rust?\n\nSort a list in Python."


def test_functions_that_may_be_called_say_what_is_asked_for_too() -> None:
    tools = [Tool(name=name) for name in ("weather", "flights", "hotels")]
    asked = "How warm is it?\n\nAvailable functions: weather, flights"
    assert classified_text("How warm is it?", (), tools) == asked
    assert classified_text("x" * 100_000, (), tools).endswith("xx\n\nAvailable functions: weather, flights")


def test_no_more_text_than_the_encoder_can_use() -> None:
    assert len(classified_text("x" * 100_000, [])) < 10_000


def test_the_question_behind_a_long_document_is_looked_at() -> None:
    text = classified_text(f"Read this.\n{'word ' * 20_000}\nWhich statute applies?", [])
    assert text.startswith("Read this.")
    assert text.endswith("Which statute applies?")
