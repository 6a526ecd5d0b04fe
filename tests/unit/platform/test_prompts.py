"""What is checked of a prompt, whichever way it comes in."""

import pytest

from coe._proto import common_pb2, events_pb2
from coe.platform import prompts
from coe.platform.errors import InvalidPrompt

HELLO = common_pb2.ChatMessage(role="user", content="hello")


@pytest.mark.parametrize(
    "asked",
    [
        events_pb2.PromptSubmitted(messages=[HELLO], raw=True),
        events_pb2.PromptSubmitted(prompt="hello", tools=[common_pb2.Tool(name="f")], raw=True),
    ],
)
def test_a_raw_prompt_is_a_text_alone(asked: events_pb2.PromptSubmitted) -> None:
    with pytest.raises(InvalidPrompt) as caught:
        prompts.check(asked, max_bytes=100)
    assert caught.value.details["param"] == "raw"
    asked.raw = False
    prompts.check(asked, max_bytes=100)
    prompts.check(events_pb2.PromptSubmitted(prompt="hello", raw=True), max_bytes=100)
