"""Whether the experts of COE_HOME can be used, and are the ones that its files name."""

from pathlib import Path

from coe.experts.catalogue import Catalogue
from coe.local.doctor.check import Check, Level, judged
from coe.mapper import bindings, mapping_file
from coe.platform.errors import ArtifactError


def experts_check(home: Path) -> Check:
    """Those that can't be used, each with its mend."""
    hosted, left_out = Catalogue(home / "experts").look()
    found = "; ".join(f"{one.expert_id}: {one.reason}" for one in left_out) or f"{len(hosted)} hosted"
    mend = "; ".join(one.mend for one in left_out)
    return judged("experts", not left_out, found, mend, otherwise=Level.WARNING)


def bindings_check(home: Path) -> Check:
    name, mend = bindings.FILE_NAME, f"import the bundle (coe import), or change {home / bindings.FILE_NAME}"
    try:
        bound = bindings.read_bindings(home / bindings.FILE_NAME)
        pool = mapping_file.load_mapping(mapping_file.locate(home)).pool
    except ArtifactError as error:
        return Check(name, Level.PROBLEM, error.message, "mend the file, or remove it: `coe up` makes one")
    if not bound:
        return Check(name, Level.GOOD, "none: the experts of the mapping answer under their own names")
    hosted, _ = Catalogue(home / "experts").look()
    lines = bindings.without_effect(bound, [expert.name for expert in pool], [bundle.id for bundle in hosted])
    found = "; ".join(lines) or f"{len(bound)} experts of the mapping, each with a bundle"
    return judged(name, not lines, found, mend, otherwise=Level.WARNING)
