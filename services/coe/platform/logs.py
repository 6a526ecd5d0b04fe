"""Structured logs: one JSON object per line on stderr, with trace and span ids."""

import logging
import sys
import time
from collections.abc import Callable, MutableMapping
from functools import partial
from typing import Any, Literal

import structlog
from opentelemetry import trace

LogFormat = Literal["json", "console"]

# Chatty at INFO; for example, aiokafka logs every rebalance and every coordinator it finds.
_QUIET = ("aiokafka", "opentelemetry", "httpx", "uvicorn.access")
# These repeat the same line, up to twenty times per second, while the broker or the collector is unreachable.
_REPEATING = ("aiokafka", "opentelemetry")
# Its repeated lines differ in a number of seconds, so they are compared before formatting.
_NUMBERED = "opentelemetry"
_EVERY_S = 30.0
_MOST_REMEMBERED = 1000
# Also a broker's normal response while it is still ending the client's previous transaction; aiokafka retries shortly
# after. If replicas really are missing, the send fails within seconds and is logged.
_ORDINARY = ("aiokafka.producer.sender", "NotEnoughReplicasError")
# Multi-line fields that we generate ourselves.
_LINES = ("exception", "stack")


class Repeats(logging.Filter):
    """Passes each line of the repetitive libraries once per `_EVERY_S`; the next one has the number `repeated`.

    Drops lines about ordinary conditions altogether.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        # Line -> when it was last passed, and how often it has been suppressed since.
        self._said: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(_REPEATING):
            return True
        said = record.msg if record.name.startswith(_NUMBERED) else record.getMessage()
        line, now = (record.name, record.levelno, said), self._clock()
        if record.name == _ORDINARY[0] and _ORDINARY[1] in line[2]:
            return False
        since, times = self._said.get(line, (now - _EVERY_S, 0))
        if now - since < _EVERY_S:
            self._said[line] = (since, times + 1)
            return False
        if len(self._said) >= _MOST_REMEMBERED:
            self._said.clear()
        self._said[line] = (now, 0)
        if times:
            record.repeated = times
        return True


def configure(service: str, *, level: str = "INFO", form: LogFormat = "json") -> None:
    """Logs records of both structlog and the standard library to stderr, through the same formatter."""
    shared: list[structlog.typing.Processor] = [
        partial(_add_service, service),
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _add_trace,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.addFilter(Repeats())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder(), _drop_colours],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_renderers(form)],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _QUIET:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))


def get(name: str) -> structlog.stdlib.BoundLogger:
    """A logger whose methods take an event and fields: `log.info("lease granted", slot=3)`."""
    logger: structlog.stdlib.BoundLogger = structlog.stdlib.get_logger(name)
    return logger


def _renderers(form: LogFormat) -> list[structlog.typing.Processor]:
    """The renderers of a format. Tracebacks omit local variables, which may hold prompts and passwords."""
    if form == "console":
        plain = structlog.dev.plain_traceback
        return [_escape, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty(), exception_formatter=plain)]
    frames = structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
    return [structlog.processors.ExceptionRenderer(frames), structlog.processors.JSONRenderer(ensure_ascii=False)]


def _drop_colours(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drops the colored copy of the message that uvicorn adds for terminals."""
    event.pop("color_message", None)
    return event


def _escape(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Escapes unprintable characters: names chosen by clients must not control a terminal. JSON escapes them itself."""
    for name, value in event.items():
        if isinstance(value, str) and not value.isprintable() and name not in _LINES:
            event[name] = value.encode("unicode_escape").decode()
    return event


def _add_service(
    service: str, _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Adds the service's name to lines from every thread, including gRPC's own."""
    event.setdefault("service", service)
    return event


def _add_trace(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        event["trace_id"] = trace.format_trace_id(context.trace_id)
        event["span_id"] = trace.format_span_id(context.span_id)
    return event
