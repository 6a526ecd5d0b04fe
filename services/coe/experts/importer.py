"""Imports a model's files as a bundle: streaming, resumable, and atomic (the bundle appears once it is complete)."""

import fcntl
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from coe.experts import chat_template
from coe.experts.bundle import MANIFEST, TOKENIZER, WEIGHTS, Bundle, tokenizer_digest
from coe.experts.catalogue import discard
from coe.experts.invalid import first_problem
from coe.experts.layout import PlannedTensor, place, plan_tensors
from coe.experts.manifest import (
    CHUNK_BYTES,
    ID_PATTERN,
    PACKING,
    Manifest,
    TokenizerFacts,
    has_old_packing,
    raw_manifest,
)
from coe.experts.packer import pieces
from coe.experts.source import ModelSource
from coe.experts.tokenizer_file import load_tokenizer
from coe.experts.weights_writer import Progress, WeightsWriter
from coe.native import packing
from coe.platform.errors import ArtifactError
from coe.platform.processors import processors

# Prefix of the directories of unfinished imports, which a catalogue never shows.
PARTIAL_PREFIX = ".partial-"
# Packing is numpy work and runs in parallel; beyond a few threads it is memory-bound.
PACK_THREADS = min(processors(), 8)


def import_model(
    source: ModelSource, experts_dir: Path, expert_id: str, *, origin: str, progress: Progress, synthetic: bool = False
) -> Bundle:
    """Writes `experts_dir/expert_id`. If the same model is already imported, the existing bundle is kept, unless its
    packing is outdated: then it is replaced once the new one is complete.

    Raises ArtifactError when the id is invalid or taken by another model (or the same one with another tokenizer or
    chat template), the source is unusable, the disk is too full, or another process is importing the same id.
    """
    if not re.fullmatch(ID_PATTERN, expert_id):
        raise ArtifactError(f"{expert_id!r} is not a valid expert id: use lower-case letters, digits and dashes")
    target = experts_dir / expert_id
    if target.exists() and not _gives_way(target, source, expert_id):
        return _unchanged(target, source)
    partial = experts_dir / f"{PARTIAL_PREFIX}{expert_id}"
    with _owned(partial):
        if target.exists() and not _gives_way(target, source, expert_id):  # finished by another process meanwhile
            partial.rmdir()
            return Bundle.open(target)
        _keep_only_if_same(partial, source)
        _fill(partial, source, expert_id, origin, progress, synthetic)
        for leftover in ("journal", "origin.json"):
            (partial / leftover).unlink()
        if target.exists():
            discard(target)
        partial.rename(target)
        _sync_directory(experts_dir)
    return Bundle.open(target)


def _fill(partial: Path, source: ModelSource, expert_id: str, origin: str, progress: Progress, synthetic: bool) -> None:
    planned = plan_tensors(source.config, source.tensors)
    placed = place(planned, packing.packed_nbytes)
    last = next(reversed(placed.values()))
    total = last.offset + last.nbytes
    tokenizer = source.tokenizer()
    chat_template.check(tokenizer.chat_template)
    writer = WeightsWriter(partial / WEIGHTS, partial / "journal")
    try:
        _check_room(partial, total - len(writer.checksums) * CHUNK_BYTES)
        checksums = writer.write(pieces(source, planned, placed), total, progress, PACK_THREADS)
    finally:
        writer.close()
    text = tokenizer.json.encode()
    manifest = _manifest(
        packing=PACKING,
        id=expert_id,
        name=source.card.name,
        source=origin,
        fingerprint=source.card.fingerprint,
        licence=source.card.licence,
        synthetic=synthetic,
        parameters=source.card.parameters,
        quantisation=_quantisation(planned),
        config=source.config,
        tokenizer=TokenizerFacts(
            chat_template=tokenizer.chat_template,
            bos_id=tokenizer.bos_id,
            add_bos=tokenizer.add_bos,
            eos_ids=tokenizer.eos_ids,
            sha256=tokenizer_digest(text),
        ),
        tensors=placed,
        weights_bytes=total,
        chunk_bytes=CHUNK_BYTES,
        checksums=checksums,
    )
    _write_synced(partial / TOKENIZER, text)
    _write_synced(partial / MANIFEST, manifest.model_dump_json(indent=1).encode())


def _check_room(folder: Path, nbytes: int) -> None:
    """Fails before the packing, which may take an hour, rather than after it."""
    free = shutil.disk_usage(folder).free
    if nbytes > free:
        raise ArtifactError(
            f"{folder.parent} has {free >> 20} MiB free, but the import needs {nbytes >> 20} MiB: free some space, "
            "or set COE_HOME to a folder on another disk"
        )


def _manifest(**facts: Any) -> Manifest:
    try:
        return Manifest(**facts)
    except ValidationError as error:
        raise ArtifactError(f"can't build a manifest for the model: {first_problem(error)}") from error


def _quantisation(planned: list[PlannedTensor]) -> str:
    """The format of most layer parameters. Embeddings don't count: they are often kept in more bits."""
    counts: Counter[str] = Counter()
    for tensor in planned:
        if tensor.name not in ("embedding", "lm_head"):
            counts[tensor.format] += tensor.rows * tensor.cols
    return counts.most_common(1)[0][0]


def _gives_way(target: Path, source: ModelSource, expert_id: str) -> bool:
    """Whether `target` is the same model, packed by an older version. Raises ArtifactError when it is another model."""
    facts = raw_manifest(target / MANIFEST)
    if facts and facts.get("fingerprint") != source.card.fingerprint:
        raise ArtifactError(f"expert {expert_id} already exists with another model: remove it or choose another id")
    return has_old_packing(facts)  # an unreadable manifest counts as current: opening the bundle reports the error


def _unchanged(target: Path, source: ModelSource) -> Bundle:
    """The existing bundle. Raises ArtifactError when the source now has a different chat template, tokenizer, or
    begin or end tokens: otherwise the user might think that they had been imported."""
    bundle = Bundle.open(target)
    kept, found = bundle.manifest.tokenizer, source.tokenizer()
    another = {
        "a different chat template": kept.chat_template != found.chat_template,
        "different tokens to begin a prompt or end an answer": (kept.bos_id, kept.add_bos, kept.eos_ids)
        != (found.bos_id, found.add_bos, found.eos_ids),
        "a different tokenizer": not _same_tokenizer(bundle.tokenizer_path, found.json),
    }
    if differs := next((what for what, is_so in another.items() if is_so), None):
        raise ArtifactError(f"expert {bundle.id} already exists with {differs}: remove it first")
    return bundle


def _same_tokenizer(path: Path, found: str) -> bool:
    """Compares both as serialised by the installed `tokenizers`: an older version may have written the file
    differently."""
    try:
        return load_tokenizer(path.read_text(encoding="utf-8"))[0].to_str() == load_tokenizer(found)[0].to_str()
    except (OSError, UnicodeDecodeError, ArtifactError):
        return False


def _keep_only_if_same(partial: Path, source: ModelSource) -> None:
    """Clears the work of an interrupted import unless it had the same source and packing."""
    origin = partial / "origin.json"
    expected = json.dumps({"fingerprint": source.card.fingerprint, "packing": PACKING, "chunk_bytes": CHUNK_BYTES})
    with suppress(FileNotFoundError):
        if origin.read_text() == expected:
            return
    for entry in partial.iterdir():
        entry.unlink()
    origin.write_text(expected)


@contextmanager
def _owned(partial: Path) -> Iterator[None]:
    """Allows one importer per id at a time. The lock is on the directory itself and is released when its process
    exits."""
    partial.mkdir(parents=True, exist_ok=True)
    handle = os.open(partial, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not partial.exists() or os.fstat(handle).st_ino != partial.stat().st_ino:
            raise BlockingIOError
        yield
    except BlockingIOError:
        raise ArtifactError(f"another process is importing {partial.name.removeprefix(PARTIAL_PREFIX)}") from None
    finally:
        os.close(handle)


def _write_synced(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
