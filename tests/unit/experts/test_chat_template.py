import resource
from contextlib import suppress

import pytest

from coe.experts import chat_template
from coe.experts.chat_template import check, render
from coe.platform.errors import ArtifactError, InvalidPrompt

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
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n - 1) ~ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "{% set _ends_at = 10**30 %}{% for i in range(9999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{{ 1 / 0 }}",
        "{{ 'x' * 10**10 }}",
        "{{ 9 ** 9 ** 9 ** 9 }}",
        "{% broken",
    ],
)
def test_hostile_templates_end_in_a_clear_error(hostile: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_template, "MAX_SECONDS", 0.2)
    with suppress(InvalidPrompt):
        assert "<class" not in render(hostile, USER, "", "")


@pytest.mark.parametrize(
    "bomb",
    [
        "{% set x = namespace(s='x') %}{% for i in range(99) %}{% set x.s = x.s ~ x.s %}{% endfor %}",
        "{% set x = 'x'.rjust(30000) %}{{ x.replace(' ', x) | length }}",
        "{{ 'x' | center(1073741824) | length }}",
        "{{ ('%01073741824d' % 1) | length }}",
    ],
)
def test_what_fills_the_memory_ends_in_an_error_and_limits_nobody_else(bomb: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_DATA)
    check(bomb)
    with pytest.raises(InvalidPrompt, match="too much memory"):
        render(bomb, USER, "", "")
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


def test_loops_and_macros_do_what_they_did() -> None:
    template = (
        "{% macro turn(m) %}[{{ m.role }}]{{ m.content }}{% endmacro %}"
        "{% for m in messages %}{{ loop.index }}{{ turn(m) }}{% if loop.last %}.{% endif %}{% else %}-{% endfor %}"
    )
    assert render(template, [*USER, {"role": "assistant", "content": "Ho"}], "", "") == "1[user]Hi2[assistant]Ho."
    assert render(template, [], "", "") == "-"


def test_what_marks_the_models_own_words_changes_nothing() -> None:
    assert (
        render("{% for m in messages %}{% generation %}{{ m.content }}!{% endgeneration %}{% endfor %}", USER, "", "")
        == "Hi!"
    )


def test_a_template_that_can_t_be_read_is_told_before_anybody_needs_it() -> None:
    check("{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(ArtifactError, match="unknown tag"):
        check("{% what %}")
