"""`coe bench decode --profile`: the time of a step by op, from ONNX Runtime's profile."""

import json
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnxruntime as ort

from coe.bench.subject import KV_FORMAT, GraphSubject, Shape
from coe.experts.bundle import Bundle
from coe.experts.graph import build_graph
from coe.experts.single import Hosted
from coe.native import ops_library_path

SKIPPED = 5  # the first runs touch new memory
RUN = "model_run"
KERNEL_TIME = "_kernel_time"
BETWEEN = "between nodes"

Event = dict[str, Any]


@dataclass(frozen=True)
class Spent:
    """For one step: microseconds by op, longest first, and the number of nodes of each."""

    microseconds: dict[str, float]
    nodes: dict[str, int]


def run(bundle: Bundle, threads: int, shape: Shape, steps: int) -> dict[str, object]:
    """Returns the profile as one object. An op that recurs in every layer is counted under one name."""
    with Hosted.load(bundle, threads=threads, kv_bytes=1 << 20) as hosted, tempfile.TemporaryDirectory() as folder:
        hosted.wait_loaded()
        subject = GraphSubject(bundle)
        options = ort.SessionOptions()
        options.register_custom_ops_library(str(ops_library_path()))
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        model = build_graph(bundle.manifest.config, bundle.manifest.tensors, KV_FORMAT, fused=False).SerializeToString()
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        subject.cache(shape.batch, shape.depth, hosted.lease)
        feeds = {**subject.inputs(shape, hosted.lease), "kv": subject.session.kv}
        for _ in range(SKIPPED + steps):
            session.run(None, feeds)
        spent = by_op(json.loads(Path(session.end_profiling()).read_text()), steps)
    return {
        "bench": "profile",
        "model": bundle.id,
        "threads": threads,
        "batch": shape.batch,
        "tokens": shape.tokens,
        "depth": shape.depth,
        "microseconds": spent.microseconds,
        "nodes": spent.nodes,
    }


def by_op(events: Sequence[Event], steps: int) -> Spent:
    """Averages a profile's events over the last `steps` runs. Time outside of nodes is BETWEEN."""
    runs = [event for event in events if event.get("name") == RUN][-steps:]
    first = min(event["ts"] for event in runs)
    spent: dict[str, float] = defaultdict(float)
    nodes: Counter[str] = Counter()
    for event in events:
        if event.get("cat") != "Node" or event["ts"] < first or not event["name"].endswith(KERNEL_TIME):
            continue
        op = line_of(event["name"].removesuffix(KERNEL_TIME), event["args"]["op_name"])
        spent[op] += event["dur"] / steps
        nodes[op] += 1
    spent[BETWEEN] = sum(event["dur"] for event in runs) / steps - sum(spent.values())
    longest = sorted(spent.items(), key=lambda item: -item[1])
    return Spent(
        {op: round(taken, 1) for op, taken in longest}, {op: round(count / steps) for op, count in nodes.items()}
    )


def line_of(node: str, op: str) -> str:
    """The name that a node is counted under: `layer.3.gate_up.out` of TieredLinear is `TieredLinear gate_up`."""
    role = re.sub(r"^layer\.\d+\.|\.out$", "", node)
    return f"{op} {role}" if role else op
