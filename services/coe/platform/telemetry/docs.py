"""Writes docs/telemetry.md from the registry: `python -m coe.platform.telemetry.docs > docs/telemetry.md`."""

import sys

from coe.platform.telemetry.registry import METRICS

_HEAD = """# Telemetry

This page is made from `services/coe/platform/telemetry/registry.py` (`python -m coe.platform.telemetry.docs`).

Off by default. `COE_OTLP_ENDPOINT=http://host:4317` exports traces and metrics over OTLP (gRPC).
`COE_METRICS_PORT=9464` serves Prometheus metrics (names there have `_` for `.`); services of `coe up` take that port
and the ones after it, in the order of their start. `COE_TRACE_FILE=traces.jsonl` appends spans to a file that all
processes may share. Logs are JSON lines on stderr and carry `trace_id` and `span_id`.

## Traces

One trace a prompt, from whoever submitted it to its terminal event. A producer may send `traceparent` with the
message; else the router begins the trace. Each hop is a CONSUMER span `process TOPIC` below the PRODUCER span
`send TOPIC` of the hop before; gRPC calls are CLIENT and SERVER spans named after their method. Stream chunks
(`coe.tokens.v1`) carry the context but have no spans of their own. `COE_TRACES_PER_S` (10) bounds how many traces are
begun in a second; a decision that came with the message is kept. `python -m coe.platform.telemetry.show traces.jsonl`
prints the last trace of such a file as a tree.

What is recorded is the same with and without somewhere to export to: a dictionary's increment for a count, a search and
two additions for a histogram. Exporting adds the traces that were begun, at most `COE_TRACES_PER_S` a second, and a
collection a minute. `coe bench telemetry --rounds 100` measures it, on stacks that answer the same bursts in turn. CPU
of the services, echo experts, on two cores shared with other work; in brackets where nine of ten draws of the
rounds lie:

| | ms a prompt | |
|---|---|---|
| without endpoint | 0.57 | |
| with it, 10 traces a second | 0.59 | 1.023 times (1.008 to 1.037) |
| with it, every prompt traced | 1.11 | 0.53 ms a trace (0.52 to 0.54), of 6 spans |

The ratio says more than a busy system loses: each of the three stacks answers a third of the time, and exports all the
time. 10 traces a second cost 5 ms of CPU each second, 0.27 % of that machine, whatever the number of prompts.

## Metrics

| name | kind | unit | what | attributes |
|---|---|---|---|---|
"""


def markdown() -> str:
    rows = [
        f"| `{metric.name}` | {metric.kind} | {metric.unit} | {metric.description} "
        f"| {', '.join(f'`{name}`' for name in metric.attributes)} |\n"
        for metric in METRICS
    ]
    return _HEAD + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(markdown())
