"""Chat templates: untrusted Jinja from a model file, rendered in a sandbox with the settings transformers uses."""

import json
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from threading import Lock
from time import thread_time
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from coe.platform.errors import ArtifactError, InvalidPrompt

# A template is a few kB, and its output is bounded by the prompt.
MAX_RENDERED = 8 << 20
# Of a processor. A conversation takes milliseconds; whoever waits for a template waits in the thread that generates.
MAX_SECONDS = 5.0
# Of memory, beside what the process has.
MAX_BYTES = 256 << 20
_limited = Lock()


def check(template: str) -> None:
    """Raises ArtifactError for a template that takes no conversation at all."""
    try:
        with _bounded_memory():
            _compiled(template)
    except Exception as error:
        raise ArtifactError(f"the model's chat template can't be read: {error}") from error


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    bos: str,
    eos: str,
    tools: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The prompt text of a conversation, ready for the assistant's turn, which may call `tools`.

    Raises InvalidPrompt when the template refuses the conversation (roles in a wrong order, say).
    """
    try:
        with _bounded_memory():
            parts = _compiled(template).generate(
                messages=[dict(message) for message in messages],
                tools=list(tools) or None,
                add_generation_prompt=True,
                bos_token=bos,
                eos_token=eos,
                _ends_at=thread_time() + MAX_SECONDS,
            )
            text: list[str] = []
            size = 0
            for part in parts:
                size += len(part)
                if size > MAX_RENDERED:
                    raise InvalidPrompt("the chat template expands the conversation too much")
                text.append(part)
    except InvalidPrompt:
        raise
    except MemoryError:
        raise InvalidPrompt("the expert's chat template needs too much memory for this conversation") from None
    except Exception as error:  # a template is foreign code: it may raise anything
        raise InvalidPrompt(f"the expert's chat template rejects this conversation: {error}") from error
    return "".join(text)


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """What takes more raises MemoryError, which ends one prompt; a process that is out of memory is killed. Strings
    grow in too many ways (`~`, center, replace) to forbid each. The limit is the process's, so one at a time."""
    with _limited:
        before = soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        limit = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize() + MAX_BYTES
        resource.setrlimit(resource.RLIMIT_DATA, (limit if soft == resource.RLIM_INFINITY else min(soft, limit), hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, before)


def check_time(context: Context) -> None:
    """Called by templates (_Sandbox)."""
    if thread_time() > context.parent["_ends_at"]:
        raise TemplateError("it takes too long")


def _look_at_time(line: int) -> nodes.Node:
    look = nodes.ImportedName(f"{__name__}.{check_time.__name__}")
    return nodes.ExprStmt(nodes.Call(look, [nodes.ContextReference()], [], None, None), lineno=line)


class _Generation(Extension):
    """`{% generation %}`: what a model was trained to say. As in transformers, it only marks."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, without repetition: `'x' * 10**10` would take the machine's memory. And loops look at the time:
    those that make nothing would be noticed by nobody."""

    intercepted_binops = frozenset(("*", "**"))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.body.insert(0, _look_at_time(loop.lineno))
        for macro in tree.find_all(nodes.Macro):
            macro.body.insert(0, _look_at_time(macro.lineno))
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if not all(isinstance(operand, int | float) and abs(operand) < 1 << 32 for operand in (left, right)):
            raise TemplateError(f"{operator} of these values is not allowed")
        if operator == "**" and abs(right) > 64:
            raise TemplateError("the power is too large")
        return super().call_binop(context, operator, left, right)


@lru_cache(maxsize=64)
def _compiled(template: str) -> Template:
    environment = _Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation])
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = lambda form: datetime.now(UTC).strftime(form)
    return environment.from_string(template)


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """With the arguments that transformers takes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
