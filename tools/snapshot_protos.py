"""Save the messages of a release: `snapshot_protos.py VERSION` writes protos/released/VERSION.binpb.

The file is a FileDescriptorSet. tests/contract/test_proto_versions.py tests each saved version against this one.
"""

import re
import sys
from importlib.resources import files
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent


def main(version: str, protos: Path) -> None:
    target = ROOT / "protos" / "released" / f"{version}.binpb"
    target.parent.mkdir(exist_ok=True)
    sources = sorted(str(path.relative_to(protos)) for path in protos.rglob("*.proto"))
    args = ["protoc", f"-I{protos}", f"-I{files('grpc_tools') / '_proto'}", "--include_imports"]
    if protoc.main([*args, f"--descriptor_set_out={target}", *sources]) != 0:
        sys.exit("protoc failed")


if __name__ == "__main__":
    if len(sys.argv) < 2 or not re.fullmatch(r"\d+\.\d+", sys.argv[1]):
        sys.exit("expected a version such as 1.4")
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else ROOT / "protos")
