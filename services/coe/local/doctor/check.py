"""The result of one check."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """`WARNING`: works, but slower or with less room. `PROBLEM`: does not work."""

    GOOD = "good"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Check:
    """`found` describes the current state; `fix` says what to do about it, and is empty when all is well."""

    name: str
    level: Level
    found: str
    fix: str = ""


def judged(name: str, good: bool, found: str, fix: str, *, otherwise: Level = Level.PROBLEM) -> Check:
    """A check that is GOOD, or of level `otherwise` with its fix."""
    return Check(name, Level.GOOD, found) if good else Check(name, otherwise, found, fix)
