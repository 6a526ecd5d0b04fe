"""Whatever an expert's template knows, a conversation that some expert can take is one that all can."""

import pytest

from coe._proto import common_pb2, events_pb2
from coe.experts.chat_template import render
from coe.experts.conversation import Conversation, Turn
from coe.experts.template_fit import Known, fitted, known
from coe.experts.tool_calls import Tool, ToolCall, ToolUse

# Each in the manner of a family of models.
CHATML = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"
ALTERNATING = """
{%- if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}
{%- for m in messages %}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}
    {{- '<' ~ ('model' if m.role == 'assistant' else m.role) ~ '>' ~ m.content }}
{%- endfor %}<model>"""
SYSTEM_FIRST = """
{%- if messages[0].role == 'system' %}{{ '<rules>' ~ messages[0].content }}{% set messages = messages[1:] %}{% endif %}
{%- for m in messages %}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate') }}{% endif %}
    {{- '<' ~ m.role ~ '>' ~ m.content }}
{%- endfor %}<assistant>"""
SYSTEM_LEFT_OUT = (
    "{% for m in messages %}{% if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endif %}{% endfor %}"
)
SYSTEM_LAST_WORD = """
{%- for m in messages if m.role == 'system' %}{{ '<rules>' ~ m.content if loop.last }}{% endfor %}
{%- for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% endfor %}<assistant>"""
WITH_TOOLS = """
{%- for tool in tools or [] %}{{ tool | tojson(ensure_ascii=False) ~ ' in <tool_call>' }}{% endfor %}
{%- for m in messages %}
    {{- '<' ~ m.role ~ '>' ~ m.content }}
    {%- for call in m.tool_calls or [] %}
        {{- '<tool_call>\\n{"name": "' ~ call.function.name ~ '", "arguments": ' ~ call.function.arguments | tojson }}
        {{- '}\\n</tool_call>' }}
    {%- endfor %}
{%- endfor %}<assistant>"""
OTHER_CALLS = WITH_TOOLS.replace('<tool_call>\\n{"name"', '[CALLS]{"name"')
PARAMETERS = '{"type": "object", "properties": {"city": {"type": "string"}}}'
WEATHER = ToolUse((Tool("weather", "How warm it is", PARAMETERS),))
RULES: Turn = {"role": "system", "content": "Be brief."}


def turns(*said: str) -> list[Turn]:
    """The user's and the assistant's, in turn."""
    return [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(said)]


def calling() -> list[Turn]:
    """Two calls, what they came to, and what the user says to that."""
    calls = [
        {"type": "function", "id": city, "function": {"name": "weather", "arguments": {"city": city}}}
        for city in ("Rome", "Oslo")
    ]
    return [
        *turns("How warm is it?"),
        {"role": "assistant", "content": "Let me see.", "tool_calls": calls},
        {"role": "tool", "content": "31 degrees", "tool_call_id": "Rome"},
        {"role": "tool", "content": "9 degrees", "tool_call_id": "Oslo"},
        {"role": "user", "content": "And Bonn?"},
    ]


def text(template: str, conversation: list[Turn], tools: ToolUse | None = None) -> str:
    asked = fitted(Conversation(conversation, tools), known(template))
    return render(template, asked.turns, "", "", [tool.spec() for tool in asked.tools.tools] if asked.tools else [])


def test_what_a_template_knows_is_found_by_trying() -> None:
    assert known(CHATML) == Known(system=True, later_system=True, runs=True, tools=False)
    assert known(ALTERNATING) == Known(system=False, later_system=False, runs=False, tools=False)
    assert known(SYSTEM_FIRST) == Known(system=True, later_system=False, runs=False, tools=False)
    assert known(WITH_TOOLS) == Known(system=True, later_system=True, runs=True, tools=True)
    assert known(OTHER_CALLS) == Known(system=True, later_system=True, runs=True, tools=False)
    assert known(SYSTEM_LAST_WORD) == Known(system=True, later_system=False, runs=True, tools=False)
    assert known(SYSTEM_LEFT_OUT) == Known(system=False, later_system=False, runs=True, tools=False)


@pytest.mark.parametrize("template", [CHATML, ALTERNATING, SYSTEM_FIRST, SYSTEM_LAST_WORD, SYSTEM_LEFT_OUT])
def test_every_template_says_all_of_a_conversation_in_order(template: str) -> None:
    conversation = [RULES, *turns("one", "two", "three"), {"role": "user", "content": "four"}, RULES, *turns("five")]
    said = text(template, conversation)
    places = [said.index(word) for word in ("Be brief.", "one", "two", "three", "four", "five")]
    assert places == sorted(places)
    assert said.count("Be brief.") == 2


def test_what_the_system_says_the_user_says_where_there_is_no_system() -> None:
    assert text(ALTERNATING, [RULES, *turns("Hi")]) == "<user>Be brief.\n\nHi<model>"
    assert text(SYSTEM_FIRST, [RULES, *turns("Hi")]) == "<rules>Be brief.<user>Hi<assistant>"
    assert text(SYSTEM_FIRST, [*turns("Hi", "Ho"), RULES, *turns("Hm")]) == (
        "<user>Hi<assistant>Ho<user>Be brief.\n\nHm<assistant>"
    )


def test_an_assistant_that_begins_was_asked_nothing_where_that_can_not_be() -> None:
    greeting: list[Turn] = [{"role": "assistant", "content": "Hello!"}, *turns("Hi")]
    assert text(CHATML, greeting) == "<assistant>Hello!<user>Hi<assistant>"
    assert text(ALTERNATING, greeting) == "<user><model>Hello!<user>Hi<model>"
    assert text(SYSTEM_FIRST, [RULES, *greeting]) == "<rules>Be brief.<user><assistant>Hello!<user>Hi<assistant>"
    assert text(ALTERNATING, [RULES, *greeting]) == "<user>Be brief.<model>Hello!<user>Hi<model>"


def test_what_a_template_knows_stays_as_it_is() -> None:
    conversation = [RULES, *turns("one"), *turns("two", "three"), RULES, *turns("four")]
    assert fitted(Conversation(conversation), known(CHATML)) == Conversation(conversation)
    weather = Conversation(calling(), WEATHER)
    assert fitted(weather, known(WITH_TOOLS)) == weather


def test_a_prompt_is_one_message_of_the_users() -> None:
    alone = events_pb2.PromptSubmitted(prompt="Hi")
    turn = events_pb2.PromptSubmitted(messages=[common_pb2.ChatMessage(role="user", content="Hi")])
    assert Conversation.from_proto(alone).turns == Conversation.from_proto(turn).turns == Conversation.of("Hi").turns


@pytest.mark.parametrize("template", [CHATML, ALTERNATING, SYSTEM_FIRST, SYSTEM_LEFT_OUT, WITH_TOOLS, OTHER_CALLS])
def test_every_template_says_tools_calls_and_results_in_order(template: str) -> None:
    said = text(template, calling(), WEATHER)
    calls = [ToolCall("weather", f'{{"city": "{city}"}}').spelled() for city in ("Rome", "Oslo")]
    words = ("How warm it is", "How warm is it?", "Let me see.", *calls, "31 degrees", "9 degrees", "And Bonn?")
    places = [said.index(word) for word in words]
    assert places == sorted(places)


def test_who_knows_no_tools_is_told_of_them_by_the_system() -> None:
    said = text(CHATML, [RULES, *turns("Hi")], WEATHER)
    assert said.startswith("<system>Be brief.\n\nYou may call functions.")
    assert said.endswith("just answer.<user>Hi<assistant>")
    assert text(CHATML, turns("Hi"), WEATHER).startswith("<system>You may call functions.")
    assert text(ALTERNATING, turns("Hi"), WEATHER).startswith("<user>You may call functions.")


def test_results_are_the_users_where_there_are_no_tools() -> None:
    asked = "<user>How warm is it?<model>Let me see.\n<tool_call>"
    told = (
        "<user><tool_response>\n31 degrees\n</tool_response>\n<tool_response>\n9 degrees\n</tool_response>"
        "\n\nAnd Bonn?<model>"
    )
    said = text(ALTERNATING, calling())
    assert said.startswith(asked)
    assert said.endswith(told)
