"""The result of one look."""

from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """`WARNING`: works, but slower or with less room. `PROBLEM`: does not work."""

    GOOD = "good"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True)
class Check:
    """`found` says what is there; `fix` what to do, empty when all is good."""

    name: str
    level: Level
    found: str
    fix: str = ""


def judged(name: str, good: bool, found: str, fix: str, *, otherwise: Level = Level.PROBLEM) -> Check:
    """A check that is good, or else of level `otherwise` with its fix."""
    return Check(name, Level.GOOD, found) if good else Check(name, otherwise, found, fix)
