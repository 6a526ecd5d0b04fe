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

# Templates are a few kB, and a sane one's output is bounded by the conversation.
MAX_RENDERED = 8 << 20
# CPU time. A conversation takes milliseconds; rendering blocks the thread that generates.
MAX_SECONDS = 5.0
# Memory on top of what the process already uses.
MAX_BYTES = 256 << 20
_limited = Lock()


def check(template: str) -> None:
    """Raises ArtifactError for a template that does not compile."""
    try:
        with _bounded_memory():
            _compiled(template)
    except Exception as error:
        raise ArtifactError(f"the model's chat template is invalid: {error}") from error


def render(
    template: str,
    messages: Sequence[Mapping[str, Any]],
    bos: str,
    eos: str,
    tools: Sequence[Mapping[str, Any]] = (),
) -> str:
    """The prompt text of a conversation, ready for the assistant's turn, which may call `tools`.

    Raises InvalidPrompt when the template rejects the conversation (because of the order of roles, say).
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
                    raise InvalidPrompt(f"the chat template renders the conversation to over {MAX_RENDERED} characters")
                text.append(part)
    except InvalidPrompt:
        raise
    except MemoryError:
        raise InvalidPrompt("the expert's chat template needs too much memory for this conversation") from None
    except Exception as error:  # templates are untrusted code and may raise anything
        raise InvalidPrompt(f"the expert's chat template can't render this conversation: {error}") from error
    return "".join(text)


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Limits allocations: exceeding the limit raises MemoryError and fails one prompt, whereas running out of memory
    would kill the process. Strings grow in too many ways (`~`, center, replace) to forbid each. The limit applies to
    the whole process, so only one template is rendered at a time."""
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


def _check_time_node(line: int) -> nodes.Node:
    check = nodes.ImportedName(f"{__name__}.{check_time.__name__}")
    return nodes.ExprStmt(nodes.Call(check, [nodes.ContextReference()], [], None, None), lineno=line)


class _Generation(Extension):
    """`{% generation %}` blocks, which mark the text a model was trained to produce. They render as their content, as
    in transformers."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, with string repetition forbidden (`'x' * 10**10` would exhaust memory) and a time check in every
    loop and macro, because one that renders nothing would never reach the size limit."""

    intercepted_binops = frozenset(("*", "**"))

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.body.insert(0, _check_time_node(loop.lineno))
        for macro in tree.find_all(nodes.Macro):
            macro.body.insert(0, _check_time_node(macro.lineno))
        return tree

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if not all(isinstance(operand, int | float) and abs(operand) < 1 << 32 for operand in (left, right)):
            raise TemplateError(f"{operator} of these values is not allowed")
        if operator == "**" and abs(right) > 64:
            raise TemplateError("the exponent is too large")
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
    """Takes the same arguments as the filter of transformers."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
