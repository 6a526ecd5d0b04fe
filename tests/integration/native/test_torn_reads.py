"""Experts swapped in and out while ops read them: a result is one expert's alone, or the run fails as stale."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np

from coe import native

READER = """if True:
    import sys
    import numpy as np
    import onnxruntime as ort
    from onnx import TensorProto, helper
    from coe import native

    name, rows, cols = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    shape = dict(offset=0, format="f32", rows=rows, cols=cols)
    node = helper.make_node("TieredLinear", ["expert_slot", "x"], ["y"], domain="ai.coe.tiered", **shape)
    inputs = [helper.make_tensor_value_info("expert_slot", TensorProto.INT64, [1]),
              helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, cols])]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, rows])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.coe.tiered", 1)]
    graph = helper.make_graph([node], "g", inputs, [output])
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(native.ops_library_path()))
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    arena = native.HbmArena.attach(name)
    arena.bind()
    x = np.ones((1, cols), np.float32)
    good = stale = 0
    print("ready", flush=True)
    while arena.slot(1).state.name == "FREE":
        generation = arena.slot(0).generation
        lease = np.array([native.lease_handle(0, generation)])
        try:
            (y,) = session.run(None, {"expert_slot": lease, "x": x})
        except Exception as error:
            assert "stale lease" in str(error), error
            stale += 1
            continue
        assert len(np.unique(y)) == 1, "torn"
        good += 1
    print(good, stale, flush=True)
"""

ROWS, COLS = 512, 512
DEADLINE_S = 60.0


def constant_expert(path: Path, value: float) -> native.WeightsFile:
    path.write_bytes(np.full(ROWS * COLS, value, np.float32).tobytes())
    return native.WeightsFile.open(path)


def test_another_process_never_sees_two_experts_in_one_result(tmp_path: Path) -> None:
    experts = [constant_expert(tmp_path / str(value), float(value)) for value in (1, 2)]
    marker = tmp_path / "marker"
    marker.write_bytes(b"end")
    arena = native.HbmArena.create(f"coe-torn-{os.getpid()}", 4 << 20, slots=2)
    command = [sys.executable, "-c", READER, arena.name, str(ROWS), str(COLS)]
    reader = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    killer = threading.Timer(DEADLINE_S, reader.kill)
    killer.start()
    try:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for swap in range(300):
            load = arena.load(0, 0, experts[swap % 2], threads=1)
            assert load.wait(DEADLINE_S)
            arena.free(0)
        with native.WeightsFile.open(marker) as end:
            assert arena.load(1, 2 << 20, end).wait(DEADLINE_S)
        out, errors = reader.communicate(timeout=DEADLINE_S)
        assert reader.returncode == 0, errors
        good, stale = map(int, out.split())
        assert good + stale > 0
    finally:
        killer.cancel()
        reader.kill()
        reader.wait()
        arena.close()
        arena.unlink()
        for expert in experts:
            expert.close()
