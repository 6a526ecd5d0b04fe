"""Tools that can't be, and calls that never were, are refused at the door."""

import pytest

from coe._proto import common_pb2, events_pb2
from coe.platform import prompts
from coe.platform.errors import InvalidPrompt, PromptTooLarge
from coe.platform.tools import MAX_SCHEMA_CHARS, MAX_TOOLS

TOOL = common_pb2.Tool(name="weather", description="d" * 10, parameters='{"properties": {}}')


def check(max_bytes: int = 1 << 20, **fields: object) -> None:
    prompts.check(events_pb2.PromptSubmitted(**{"prompt": "Hi"} | fields), max_bytes=max_bytes)  # type: ignore[arg-type]


def conversation(*messages: common_pb2.ChatMessage) -> None:
    user = common_pb2.ChatMessage(role="user", content="Hi")
    prompts.check(events_pb2.PromptSubmitted(messages=[user, *messages]), max_bytes=1000)


def calling(arguments: str, role: str = "assistant") -> common_pb2.ChatMessage:
    return common_pb2.ChatMessage(role=role, tool_calls=[common_pb2.ToolCall(name="weather", arguments=arguments)])


RESULT = common_pb2.ChatMessage(role="tool", content="31 degrees")


def test_tools_and_their_calls_are_taken() -> None:
    for choice in ("", "auto", "required", "none"):
        check(tools=[TOOL, common_pb2.Tool(name="now")], tool_choice=choice)
    conversation(calling('{"city": "Rome"}'), RESULT)
    conversation(calling(""), RESULT)


@pytest.mark.parametrize(
    "tool",
    [
        {"name": ""},
        {"name": "with space"},
        {"name": "größe"},
        {"name": "x" * 65},
        {"name": 'a"b'},
        {"name": "f", "parameters": "{"},
        {"name": "f", "parameters": "[]"},
        {"name": "f", "parameters": '{"type": "string"}'},
        {"name": "f", "parameters": '{"description": "\\ud800"}'},
        {"name": "f", "parameters": '{"a": ' * 9000 + "1" + "}" * 9000},
        {"name": "f", "parameters": " " * MAX_SCHEMA_CHARS + "{}"},
    ],
)
def test_what_is_no_tool_is_refused(tool: dict[str, str]) -> None:
    with pytest.raises(InvalidPrompt, match="tools: ") as refused:
        check(tools=[common_pb2.Tool(**tool)])
    assert refused.value.details["param"] == "tools"
    assert len(str(refused.value)) < 200


def test_names_are_unique_and_tools_not_endless() -> None:
    with pytest.raises(InvalidPrompt, match="2 are named 'weather'"):
        check(tools=[TOOL, TOOL])
    with pytest.raises(InvalidPrompt, match="more than"):
        check(tools=[common_pb2.Tool(name=f"f{index}") for index in range(MAX_TOOLS + 1)])


def test_a_choice_is_one_that_there_is() -> None:
    with pytest.raises(InvalidPrompt, match="tool_choice"):
        check(tools=[TOOL], tool_choice="always")
    with pytest.raises(InvalidPrompt, match="there are no tools"):
        check(tool_choice="required")


@pytest.mark.parametrize("arguments", ["{", "[1]", "3", '{"a": "\\udc00"}'])
def test_calls_in_a_conversation_have_arguments(arguments: str) -> None:
    with pytest.raises(InvalidPrompt, match="no JSON object"):
        conversation(calling(arguments), RESULT)


def test_calls_in_a_conversation_name_what_was_called() -> None:
    with pytest.raises(InvalidPrompt, match="which is not a valid name"):
        conversation(common_pb2.ChatMessage(role="assistant", tool_calls=[common_pb2.ToolCall(arguments="{}")]), RESULT)


def test_only_the_assistant_calls_and_has_not_the_last_word() -> None:
    with pytest.raises(InvalidPrompt, match="only the assistant"):
        conversation(calling("{}", role="user"))
    with pytest.raises(InvalidPrompt, match="the last message"):
        conversation(calling("{}"))


def test_tools_and_calls_count_as_text() -> None:
    size = len("Hi") + len(TOOL.name + TOOL.description + TOOL.parameters)
    check(max_bytes=size, tools=[TOOL])
    with pytest.raises(PromptTooLarge):
        check(max_bytes=size - 1, tools=[TOOL])
    with pytest.raises(PromptTooLarge):
        conversation(calling('{"city": "%s"}' % ("x" * 1000)), RESULT)
