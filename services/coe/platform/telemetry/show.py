"""Prints traces of a COE_TRACE_FILE as trees: `python -m coe.platform.telemetry.show traces.jsonl [TRACE_ID]`.

Without a trace id: the last trace that ended.
"""

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Span = dict[str, Any]

_SHOWN = (
    "coe.router.category",
    "coe.expert.id",
    "coe.tier.name",
    "gen_ai.usage.output_tokens",
    "error.type",
)


def tree(spans: Iterable[Span]) -> str:
    """One line per span: start relative to the trace, duration, service, name, and the most important attributes."""
    found = sorted(spans, key=lambda span: int(span["start_ns"]))
    ids = {span["span_id"] for span in found}
    began = found[0]["start_ns"] if found else 0
    lines: list[str] = []

    def add(span: Span, depth: int) -> None:
        start, length = (span["start_ns"] - began) / 1e6, (span["end_ns"] - span["start_ns"]) / 1e6
        facts = " ".join(f"{name}={span['attributes'][name]}" for name in _SHOWN if name in span["attributes"])
        service = span["service"].removeprefix("coe-")
        lines.append(f"{start:9.1f} ms {length:9.1f} ms  {'  ' * depth}{service}: {span['name']}  {facts}".rstrip())
        for child in found:
            if child["parent_id"] == span["span_id"]:
                add(child, depth + 1)

    for span in found:
        if span["parent_id"] not in ids:
            add(span, 0)
    return "\n".join(lines)


def main(path: str, trace_id: str = "") -> None:
    try:
        spans: list[Span] = [json.loads(line) for line in Path(path).read_text().splitlines()]
    except (OSError, ValueError) as error:
        sys.exit(f"{path} holds no traces: {error}")
    wanted = trace_id or (spans[-1]["trace_id"] if spans else "")
    found = [span for span in spans if span["trace_id"] == wanted]
    sys.stdout.write(tree(found) + "\n" if found else f"{path} holds no trace {wanted}\n")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:3])
