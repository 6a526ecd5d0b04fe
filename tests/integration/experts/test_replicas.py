"""Replicas: the same bytes under another name."""

import os
from pathlib import Path

import pytest

from coe.experts.catalogue import Catalogue
from coe.experts.gguf_source import GgufSource
from coe.platform.errors import ArtifactError, ExpertNotFound
from integration.experts.tiny_import import run
from support.gguf_files import TinyModel, write_tiny_gguf


def test_replicas_share_bytes_and_say_so(source: GgufSource, experts: Path) -> None:
    original = run(source, experts)
    catalogue = Catalogue(experts)
    replica = catalogue.replicate("tiny", 2)
    assert replica.id == "tiny@replica-2"
    assert replica.manifest.replica_of == "tiny"
    assert replica.weights_path.stat().st_ino == original.weights_path.stat().st_ino
    assert replica.layout_key == original.layout_key
    assert catalogue.replicate("tiny", 2).id == replica.id
    catalogue.remove("tiny")
    catalogue.get("tiny@replica-2").verify()
    with pytest.raises(ExpertNotFound):
        catalogue.get("tiny")
    with pytest.raises(ExpertNotFound):
        catalogue.get("../tiny@replica-2")


def test_a_replica_of_weights_that_were_replaced_is_made_again(
    source: GgufSource, experts: Path, tmp_path: Path
) -> None:
    run(source, experts)
    catalogue = Catalogue(experts)
    former = catalogue.replicate("tiny", 1)
    catalogue.remove("tiny")
    other = GgufSource.open(write_tiny_gguf(tmp_path / "other.gguf", TinyModel(seed=9)))
    run(other, experts)
    other.close()
    replica = catalogue.replicate("tiny", 1)
    assert replica.manifest.weights_digest != former.manifest.weights_digest
    assert replica.weights_path.samefile(catalogue.get("tiny").weights_path)
    replica.verify()


def test_an_expert_that_only_has_a_replicas_name_is_left_alone(source: GgufSource, experts: Path) -> None:
    run(source, experts)
    own = run(source, experts, "tiny@replica-1")
    with pytest.raises(ArtifactError, match="is not a replica of tiny"):
        Catalogue(experts).replicate("tiny", 1)
    own.verify()


def test_what_a_killed_process_of_the_same_number_left_is_in_nobodys_way(source: GgufSource, experts: Path) -> None:
    run(source, experts)
    catalogue = Catalogue(experts)
    for leftover in (f".removed-tiny-{os.getpid()}", f".replica-tiny@replica-1-{os.getpid()}"):
        (experts / leftover).mkdir()
        (experts / leftover / "weights.coe").write_bytes(b"half")
    assert catalogue.replicate("tiny", 1).id == "tiny@replica-1"
    catalogue.remove("tiny")
    assert [path.name for path in experts.iterdir()] == ["tiny@replica-1"]
