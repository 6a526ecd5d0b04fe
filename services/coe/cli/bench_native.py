"""`coe bench decode`, `steps`, `guesses` and `switch`: one model on the native path, compared with the peers."""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from coe.bench import decode, guesses, profile, steps, switch
from coe.bench.cases import Case, Figure
from coe.bench.clock import pin
from coe.bench.peer_models import PeerModels, prepare
from coe.bench.peer_setup import runtimes
from coe.bench.subject import Shape
from coe.cli.bench_native_tables import decode_table, guesses_table, profile_table, steps_table, switch_table
from coe.cli.console import err, out, print_json
from coe.experts.bundle import Bundle
from coe.experts.gguf_source import GgufSource
from coe.experts.importer import import_model
from coe.experts.locate import locate
from coe.platform.errors import ArtifactError, InvalidPrompt


@contextmanager
def imported(model: str) -> Iterator[tuple[Bundle, GgufSource]]:
    """Imports the GGUF model into a temporary bundle."""
    with tempfile.TemporaryDirectory(prefix="coe-bench-") as folder, locate(model) as located:
        if not isinstance(located.source, GgufSource):
            raise ArtifactError(f"{model} is not a GGUF model: the peers could not run the same file")
        bundle = import_model(
            located.source, Path(folder), located.suggested_id, origin=located.origin, progress=lambda done, total: None
        )
        yield bundle, located.source


def run_decode(model: str, against: str | None, threads: int, rounds: int, steps: int, as_json: bool) -> None:
    with imported(model) as (bundle, source):
        peers = _peers(against, source)
        pin(threads)
        for line in decode.run(bundle, threads, rounds, steps, peers):
            if isinstance(line, Figure):
                err.print({name: value for name, value in asdict(line).items() if value is not None})
            else:
                print_json(line) if as_json else out.print(decode_table(line))


def run_switch(model: str, against: str | None, threads: int, rounds: int, as_json: bool) -> None:
    with imported(model) as (bundle, source):
        peers = _peers(against, source)
        pin(threads)
        line = switch.run(bundle, threads, rounds, peers)
        print_json(line) if as_json else out.print(switch_table(line))


def run_guesses(model: str, threads: int, rounds: int, tokens: int, as_json: bool) -> None:
    with imported(model) as (bundle, _):
        pin(threads)
        line = guesses.run(bundle, threads, rounds, tokens)
        print_json(line) if as_json else out.print(guesses_table(line))


def run_steps(
    model: str, threads: int, rounds: int, count: int, cases: Sequence[Case], against: Path | None, as_json: bool
) -> None:
    with imported(model) as (bundle, _):
        pin(threads)
        line = steps.run(bundle, threads, rounds, count, cases, against)
        print_json(line) if as_json else out.print(steps_table(line))


def run_profile(model: str, threads: int, shape: Shape, steps: int, as_json: bool) -> None:
    with imported(model) as (bundle, _):
        pin(threads)
        line = profile.run(bundle, threads, shape, steps)
        print_json(line) if as_json else out.print(profile_table(line))


def _peers(against: str | None, source: GgufSource) -> tuple[Path, PeerModels] | None:
    if against is None:
        return None
    if against != "peers":
        raise InvalidPrompt("--against takes `peers`")
    interpreter = runtimes(err.print)
    return interpreter, prepare(source, interpreter, err.print)
