"""Chat templates: untrusted Jinja from a model file, rendered in a sandbox with the settings transformers uses."""

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Template, TemplateError
from jinja2.ext import loopcontrols
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from coe.platform.errors import InvalidPrompt

# A template is a few kB; its output is bounded by the prompt, so a runaway loop shows as too long a result.
MAX_RENDERED = 8 << 20


def render(template: str, messages: Sequence[Mapping[str, str]], bos: str, eos: str) -> str:
    """The prompt text of a conversation, ready for the assistant's turn.

    Raises InvalidPrompt when the template refuses the conversation (roles in a wrong order, say).
    """
    try:
        parts = _compiled(template).generate(
            messages=[dict(message) for message in messages],
            add_generation_prompt=True,
            bos_token=bos,
            eos_token=eos,
        )
        text: list[str] = []
        size = 0
        for part in parts:
            size += len(part)
            if size > MAX_RENDERED:
                raise InvalidPrompt("the chat template makes the conversation too long")
            text.append(part)
    except InvalidPrompt:
        raise
    except Exception as error:  # a template is foreign code: it may raise anything
        raise InvalidPrompt(f"the expert's chat template can't take this conversation: {error}") from error
    return "".join(text)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, without repetition: `'x' * 10**10` would take the machine's memory."""

    intercepted_binops = frozenset(("*", "**"))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if not all(isinstance(operand, int | float) and abs(operand) < 1 << 32 for operand in (left, right)):
            raise TemplateError(f"{operator} of these values is not allowed")
        if operator == "**" and abs(right) > 64:
            raise TemplateError("the power is too large")
        return super().call_binop(context, operator, left, right)


@lru_cache(maxsize=64)
def _compiled(template: str) -> Template:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
    return environment.from_string(template)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(value: Any, indent: int | None = None) -> str:
    return json.dumps(value, ensure_ascii=False, indent=indent)
