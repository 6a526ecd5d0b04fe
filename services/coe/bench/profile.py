"""`coe bench decode --profile`: where the time of a step goes, by op, from ONNX Runtime's own profile."""

import json
import tempfile
from collections import defaultdict
from pathlib import Path

import onnxruntime as ort

from coe.bench.subject import KV_FORMAT, GraphSubject, Shape
from coe.experts.bundle import Bundle
from coe.experts.graph import build_graph
from coe.experts.single import Hosted
from coe.native import ops_library_path

SKIPPED = 5  # first runs touch new memory
RUN = "model_run"


def run(bundle: Bundle, threads: int, shape: Shape, steps: int) -> dict[str, object]:
    """Microseconds a step by op type; `between` is the run's time outside of its nodes."""
    with Hosted.load(bundle, threads=threads, kv_bytes=1 << 20) as hosted, tempfile.TemporaryDirectory() as folder:
        subject = GraphSubject(bundle)
        options = ort.SessionOptions()
        options.register_custom_ops_library(str(ops_library_path()))
        options.intra_op_num_threads = 1
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        model = build_graph(bundle.manifest.config, bundle.manifest.tensors, KV_FORMAT).SerializeToString()
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feeds = {**subject.inputs(shape, hosted.lease), "kv": subject.session.kv}
        for _ in range(SKIPPED + steps):
            session.run(None, feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
    return {
        "bench": "profile",
        "model": bundle.id,
        "threads": threads,
        "batch": shape.batch,
        "depth": shape.depth,
        "microseconds": by_op(events, steps),
    }


def by_op(events: list[dict[str, object]], steps: int) -> dict[str, float]:
    """Mean over the last `steps` runs of a profile's events."""
    runs = [event for event in events if event.get("name") == RUN][-steps:]
    first = min(int(str(event["ts"])) for event in runs)
    spent: dict[str, float] = defaultdict(float)
    for event in events:
        arguments = event.get("args")
        if event.get("cat") != "Node" or not isinstance(arguments, dict) or int(str(event["ts"])) < first:
            continue
        if str(event["name"]).endswith("_kernel_time"):
            spent[str(arguments["op_name"])] += int(str(event["dur"])) / steps
    total = sum(int(str(event["dur"])) for event in runs) / steps
    spent["between"] = total - sum(spent.values())
    return {name: round(taken, 1) for name, taken in sorted(spent.items(), key=lambda item: -item[1])}
