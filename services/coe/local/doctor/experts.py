"""Checks that the experts in COE_HOME are usable."""

from pathlib import Path

from coe.experts.catalogue import Catalogue
from coe.local.doctor.check import Check, Level, judged


def experts_check(home: Path) -> Check:
    """Those that can't be used, each with its fix."""
    hosted, left_out = Catalogue(home / "experts").look()
    found = "; ".join(f"{one.expert_id}: {one.reason}" for one in left_out) or f"{len(hosted)} hosted"
    fix = "; ".join(one.fix for one in left_out)
    return judged("experts", not left_out, found, fix, otherwise=Level.WARNING)
