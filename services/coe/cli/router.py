"""The work and output of `coe train router` and `coe bench router`."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import Progress, TaskID

from coe.cli.console import out, print_json, short_progress
from coe.cli.extras import train_extra
from coe.encoder import EncoderSpec, open_encoder
from coe.platform.errors import ArtifactError, CoEError, InvalidPrompt
from coe.platform.settings import CoreSettings
from coe.router import artifact as artifacts
from coe.router.classifier import Classifier, open_classifier
from coe.router.settings import RouterSettings

# Tokens that the router reads: the start of a prompt states the request, and the end often repeats it.
WINDOW, TAIL = 32, 10
# The fifth of six layers separates topics better than the last, and skipping that leaves time for a wider window.
LAYERS = 5


def train_router(
    data: Path, others: Sequence[Path], path: Path, *, encoder: Path | None, seed: int, as_json: bool
) -> None:
    """Trains on labelled prompts, writes the artifact and prints the validation figures."""
    with train_extra("training"):
        from coe.router.training.build import build
        from coe.router.training.data import load
        from coe.router.training.others import load_others
        from coe.router.training.seeds import seeds
    collected, more = load(data), load_others(others)
    int8, layers = (True, LAYERS) if encoder is None else (False, 0)
    opened = open_encoder(EncoderSpec(encoder, WINDOW, TAIL, int8, threads=2, layers=layers))
    kind = artifacts.EncoderKind(opened.fingerprint, WINDOW, TAIL, int8, layers)
    with _bars() as bars:
        trained = build(collected, seeds(), opened, kind=kind, others=more, seed=seed, progress=bars.show)
    version = artifacts.save(path, trained.artifact)
    show(
        {
            "artifact": str(path),
            "version": version,
            "bytes": path.stat().st_size,
            **trained.artifact.figures,
            "unseen_sources": {name: round(value, 4) for name, value in trained.figures.unseen.items()},
            "outlier_aurocs": {name: round(value, 4) for name, value in trained.figures.aurocs.items()},
        },
        as_json,
    )


def add_categories(
    specifications: Sequence[str], base: Path, path: Path, *, encoder: Path | None, seed: int, as_json: bool
) -> None:
    """Adds NAME=FOLDER categories to the artifact at `base` and writes the result to `path`."""
    with train_extra("training"):
        from coe.router.training.gate import add_category, read_folder
    artifact = artifacts.load(base)
    kind = artifact.encoder
    opened = open_encoder(EncoderSpec(encoder, kind.max_tokens, kind.tail_tokens, kind.int8, 2, kind.layers))
    Classifier(artifact, opened)
    added = {}
    for specification in specifications:
        name, separator, folder = specification.partition("=")
        if not (name and separator and folder):
            raise InvalidPrompt(f"--add-category takes NAME=FOLDER, not {specification}")
        texts = read_folder(Path(folder))
        artifact = add_category(artifact, name, texts, opened, seed=seed)
        added[name] = len(texts)
    if lost := ", ".join(sorted(_categories(path) - set(artifact.model.categories))):
        raise CoEError(
            f"{path} has {lost}, which {base} lacks: COE_ROUTER_ARTIFACT={path} adds to that one, else remove it first"
        )
    version = artifacts.save(path, artifact)
    show({"artifact": str(path), "version": version, "bytes": path.stat().st_size, "added": added}, as_json)


def _categories(path: Path) -> set[str]:
    """The categories of the artifact at `path`; empty if there is none or it can't be read."""
    try:
        return set(artifacts.load(path).model.categories)
    except ArtifactError:
        return set()


def bench_router(*, as_json: bool) -> None:
    """Prints latency on one core and throughput on two, for prompts of 128 tokens."""
    from coe.router.bench import TOKENS, latency, throughput

    path = serving()
    figures = {
        "tokens": TOKENS,
        **latency(open_classifier(path, threads=1)),
        "prompts_per_s": throughput(open_classifier(path, threads=2)),
    }
    show(figures, as_json)


def serving() -> Path:
    """The artifact that a router with this configuration uses."""
    return RouterSettings().artifact or artifacts.locate(CoreSettings().home)


class _Bars:
    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._tasks: dict[str, TaskID] = {}

    def show(self, what: str, done: int, total: int) -> None:
        if what not in self._tasks:
            self._tasks[what] = self._progress.add_task(what)
        self._progress.update(self._tasks[what], completed=done, total=total)


@contextmanager
def _bars() -> Iterator[_Bars]:
    with short_progress() as progress:
        yield _Bars(progress)


def show(figures: Mapping[str, object], as_json: bool) -> None:
    """Prints one line per figure; a figure with parts gets one line per part."""
    if as_json:
        print_json(dict(figures))
        return
    for name, value in figures.items():
        if isinstance(value, dict):
            out.print(name)
            for part, figure in value.items():
                out.print(f"  {part:50} {_said(figure)}")
        else:
            out.print(f"{name:24} {_said(value)}")


def _said(figure: object) -> str:
    if isinstance(figure, dict):
        return ", ".join(f"{name} {_said(value)}" for name, value in figure.items())
    return f"{figure:.4g}" if isinstance(figure, float) else str(figure)
