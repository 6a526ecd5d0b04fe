from contextlib import suppress

import pytest

from coe.experts.chat_template import render
from coe.platform.errors import InvalidPrompt

USER = [{"role": "user", "content": "Hi"}]


def test_blocks_leave_no_blank_lines() -> None:
    template = (
        "{% for m in messages %}\n    {% if m.role == 'user' %}\n[{{ m.content }}]\n    {% endif %}\n{% endfor %}\nend"
    )
    assert render(template, USER, "", "") == "[Hi]\nend"


def test_special_tokens_and_the_assistants_turn() -> None:
    template = "{{ bos_token }}{{ messages[0].content }}{{ eos_token }}{% if add_generation_prompt %}>{% endif %}"
    assert render(template, USER, "<s>", "</s>") == "<s>Hi</s>>"


def test_a_template_can_refuse() -> None:
    with pytest.raises(InvalidPrompt, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}", USER, "", "")


@pytest.mark.parametrize(
    "hostile",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ ''.__class__ }}{{ ().__class__.__bases__[0] }}",
        "{{ messages.append(1) }}",
        "{{ range(10**9) }}",
        "{% for i in range(99999) %}{% for j in range(99999) %}{{ 'x' * 100 }}{% endfor %}{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ 'x' * 10**10 }}",
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{% broken",
    ],
)
def test_hostile_templates_end_in_a_clear_error(hostile: str) -> None:
    with suppress(InvalidPrompt):
        assert "<class" not in render(hostile, USER, "", "")
