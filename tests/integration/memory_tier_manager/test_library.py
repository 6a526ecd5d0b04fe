"""Bundles as the manager sees them."""

from pathlib import Path

import pytest

from coe.experts.catalogue import Catalogue
from coe.memory_tier_manager.native_arena import BundleLibrary
from coe.platform.errors import ExpertNotFound, TierLoadError
from support.experts import import_gguf
from support.gguf_files import TinyModel, write_tiny_gguf


def test_checksums_are_compared_on_the_first_whole_load(tmp_path: Path) -> None:
    bundle = import_gguf(write_tiny_gguf(tmp_path / "a.gguf", TinyModel()), tmp_path / "experts", "a")
    library = BundleLibrary(Catalogue(tmp_path / "experts"))
    file = library.open("a")
    assert file.nbytes == library.nbytes("a") == bundle.weights_bytes
    assert file.needs_check
    library.loaded("a")
    assert not file.needs_check
    file.close()
    with pytest.raises(ExpertNotFound):
        library.nbytes("b")


def test_a_bundle_of_another_size_needs_room_of_its_own(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "experts")
    library = BundleLibrary(catalogue)
    import_gguf(write_tiny_gguf(tmp_path / "a.gguf", TinyModel()), tmp_path / "experts", "a")
    first = library.nbytes("a")
    catalogue.remove("a")
    import_gguf(write_tiny_gguf(tmp_path / "a.gguf", TinyModel(layers=4)), tmp_path / "experts", "a")
    with pytest.raises(TierLoadError, match="anew"):
        library.open("a")
    assert library.nbytes("a") > first
    library.open("a").close()
