"""Whatever an expert's template knows, a conversation that some expert can take is one that all can."""

import pytest

from coe._proto import common_pb2, events_pb2
from coe.experts.chat_template import render
from coe.experts.conversation import Conversation, Turn
from coe.experts.template_fit import Known, fitted, known

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
RULES: Turn = {"role": "system", "content": "Be brief."}


def turns(*said: str) -> list[Turn]:
    """The user's and the assistant's, in turn."""
    return [{"role": ("user", "assistant")[index % 2], "content": text} for index, text in enumerate(said)]


def text(template: str, conversation: list[Turn]) -> str:
    return render(template, fitted(conversation, known(template)), "", "")


def test_what_a_template_knows_is_found_by_trying() -> None:
    assert known(CHATML) == Known(system=True, later_system=True, runs=True)
    assert known(ALTERNATING) == Known(system=False, later_system=False, runs=False)
    assert known(SYSTEM_FIRST) == Known(system=True, later_system=False, runs=False)
    assert known(SYSTEM_LEFT_OUT) == Known(system=False, later_system=False, runs=True)


@pytest.mark.parametrize("template", [CHATML, ALTERNATING, SYSTEM_FIRST, SYSTEM_LEFT_OUT])
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


def test_what_a_template_knows_stays_as_it_is() -> None:
    conversation = [RULES, *turns("one"), *turns("two", "three"), RULES, *turns("four")]
    assert fitted(conversation, known(CHATML)) == conversation


def test_a_prompt_is_one_message_of_the_users() -> None:
    alone = events_pb2.PromptSubmitted(prompt="Hi")
    turn = events_pb2.PromptSubmitted(messages=[common_pb2.ChatMessage(role="user", content="Hi")])
    assert Conversation.from_proto(alone).turns == Conversation.from_proto(turn).turns == Conversation.of("Hi").turns
