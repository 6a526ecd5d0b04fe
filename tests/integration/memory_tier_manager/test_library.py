"""Bundles as the manager sees them."""

from contextlib import closing
from pathlib import Path

import pytest

from coe.experts.catalogue import Catalogue
from coe.memory_tier_manager.native_arena import BundleLibrary
from coe.platform.errors import ExpertNotFound
from support.experts import import_gguf
from support.gguf_files import TinyModel, write_tiny_gguf


def test_checksums_are_compared_until_a_whole_load_of_what_was_read(tmp_path: Path) -> None:
    bundle = import_gguf(write_tiny_gguf(tmp_path / "a.gguf", TinyModel()), tmp_path / "experts", "a")
    library = BundleLibrary(Catalogue(tmp_path / "experts"))
    file = library.open("a")
    assert (file.tag, file.nbytes) == library.look("a") == (bundle.weights_tag, bundle.weights_bytes)
    assert file.needs_check
    file.loaded()
    assert not file.needs_check
    with closing(library.open("a")) as again:
        assert again.needs_check, "it was read from the disk again"
    file.close()
    with pytest.raises(ExpertNotFound):
        library.look("b")


def test_a_bundle_of_the_same_size_but_other_bytes_has_another_tag(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "experts")
    library = BundleLibrary(catalogue)
    import_gguf(write_tiny_gguf(tmp_path / "a.gguf", TinyModel()), tmp_path / "experts", "a")
    with closing(library.open("a")) as former:
        tag, nbytes = former.tag, former.nbytes
    catalogue.remove("a")
    import_gguf(write_tiny_gguf(tmp_path / "b.gguf", TinyModel(seed=1)), tmp_path / "experts", "a")
    with closing(library.open("a")) as other:
        assert other.nbytes == nbytes
        assert other.tag != tag


def test_a_bundle_of_another_size_has_another_size(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "experts")
    library = BundleLibrary(catalogue)
    import_gguf(write_tiny_gguf(tmp_path / "a.gguf", TinyModel()), tmp_path / "experts", "a")
    first = library.look("a").nbytes
    assert not library.changed(["a"])
    catalogue.remove("a")
    import_gguf(write_tiny_gguf(tmp_path / "a.gguf", TinyModel(layers=4)), tmp_path / "experts", "a")
    assert library.changed(["a"]) == ["a"]
    with closing(library.open("a")) as file:
        assert file.nbytes == library.look("a").nbytes > first


def test_an_expert_that_is_gone_is_seen_to_be(tmp_path: Path) -> None:
    catalogue = Catalogue(tmp_path / "experts")
    library = BundleLibrary(catalogue)
    import_gguf(write_tiny_gguf(tmp_path / "a.gguf", TinyModel()), tmp_path / "experts", "a")
    library.look("a")
    catalogue.remove("a")
    assert library.experts() == {}
    assert library.changed(["a"]) == ["a"]
    for ask in (library.open, library.look):
        with pytest.raises(ExpertNotFound):
            ask("a")


def test_an_expert_that_was_only_listed_is_followed_and_one_that_comes_back_is_seen(tmp_path: Path) -> None:
    """A manager that takes an arena over has opened none of what is in it; pins wait for experts that were removed."""
    catalogue = Catalogue(tmp_path / "experts")
    import_gguf(write_tiny_gguf(tmp_path / "a.gguf", TinyModel()), tmp_path / "experts", "a")
    library = BundleLibrary(catalogue)
    assert "a" in library.experts()
    catalogue.remove("a")
    assert library.changed(["a"]) == ["a"]
    with pytest.raises(ExpertNotFound):
        library.look("a")
    import_gguf(tmp_path / "a.gguf", tmp_path / "experts", "a")
    assert library.changed(["a"]) == ["a"]
    library.look("a")
    assert not library.changed(["a"])
