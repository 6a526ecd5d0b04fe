"""Many experts in one session: 64 variations of a small model, an HBM of 8 slots, threads that switch at random."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from coe import native
from coe.native import packing

EXPERTS, SLOTS, THREADS = 64, 8, 4
ROUNDS = int(os.environ.get("COE_TEST_SWITCHES", "60"))
ROWS, COLS = 256, 128
STRIDE = 1 << 18
DEADLINE_S = 60.0
INPUT = np.linspace(-1, 1, COLS, dtype=np.float32)[None]


@pytest.fixture
def experts(tmp_path: Path) -> Iterator[list[tuple[native.WeightsFile, np.ndarray]]]:
    """Each expert's weights, and its output when it is computed alone (by numpy)."""
    made = []
    for index in range(EXPERTS):
        weights = np.random.default_rng(index).standard_normal((ROWS, COLS), np.float32)
        path = tmp_path / f"expert-{index}"
        path.write_bytes(packing.pack("f32", weights, ROWS, COLS).tobytes())
        made.append((native.WeightsFile.open(path), INPUT @ weights.T))
    yield made
    for file, _ in made:
        file.close()


def one_session() -> ort.InferenceSession:
    shape = {"offset": 0, "format": "f32", "rows": ROWS, "cols": COLS}
    node = helper.make_node("TieredLinear", ["expert_slot", "x"], ["y"], domain="ai.coe.tiered", **shape)
    inputs = [
        helper.make_tensor_value_info("expert_slot", TensorProto.INT64, [1]),
        helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, COLS]),
    ]
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, ROWS])
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.coe.tiered", 1)]
    model = helper.make_model(helper.make_graph([node], "g", inputs, [output]), opset_imports=opsets, ir_version=10)
    options = ort.SessionOptions()
    options.register_custom_ops_library(str(native.ops_library_path()))
    options.intra_op_num_threads = 1
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def test_every_expert_answers_as_when_alone(experts: list[tuple[native.WeightsFile, np.ndarray]]) -> None:
    native.set_threads(2)
    session = one_session()
    arena = native.HbmArena.create(f"coe-many-{os.getpid()}", SLOTS * STRIDE, slots=SLOTS)
    arena.bind()
    owners = [threading.Lock() for _ in range(SLOTS)]  # a slot is switched by one thread at a time, as under a lease
    failures: list[str] = []

    def work(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(ROUNDS):
            slot, index = int(random.integers(SLOTS)), int(random.integers(EXPERTS))
            file, alone = experts[index]
            with owners[slot]:
                if arena.slot(slot).state is native.SlotState.RESIDENT:
                    arena.free(slot)
                load = arena.load(slot, slot * STRIDE, file, threads=1)
                lease = np.array([native.lease_handle(slot, load.generation)])
                (y,) = session.run(None, {"expert_slot": lease, "x": INPUT})  # may start before the copy is complete
                if not load.wait(DEADLINE_S) or load.error:
                    failures.append(f"load of {index}: {load.error}")
                elif not np.allclose(y, alone, rtol=1e-4, atol=1e-4):
                    failures.append(f"expert {index} in slot {slot} answered as another")

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(THREADS)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
    finally:
        arena.close()
        arena.unlink()
