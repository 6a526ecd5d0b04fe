"""A model far larger than the memory an import may take: its file is sparse, but all of its bytes are packed."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from gguf import GGMLQuantizationType as Q

from support.gguf_files import TinyModel
from support.sparse_gguf import write_sparse_gguf

# An interpreter with the libraries takes some 150 MB. A file of 40 GB costs no more than this one of 0.7 GB.
PEAK_BYTES = 256 << 20

SCRIPT = """
import json, sys
from pathlib import Path
from coe.experts.gguf_source import GgufSource
from coe.experts.importer import import_model
source = GgufSource.open(Path(sys.argv[1]))
bundle = import_model(source, Path(sys.argv[2]), "large", origin="sparse", progress=lambda done, total: None)
source.close()
status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps({"peak": int(status["VmHWM"].split()[0]) * 1024, "weights": bundle.weights_bytes}))
"""


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    model = TinyModel(hidden=4096, heads=32, kv_heads=8, head_dim=128, feed_forward=14336, layers=1, kind=Q.F16)
    path = write_sparse_gguf(tmp_path / "large.gguf", model, vocabulary=32768)
    try:
        command = [sys.executable, "-c", SCRIPT, str(path), str(tmp_path / "experts")]
        figures = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=100).stdout)
    finally:
        shutil.rmtree(tmp_path)
    print(figures)
    assert figures["weights"] > 2.5 * PEAK_BYTES
    assert figures["peak"] < PEAK_BYTES
