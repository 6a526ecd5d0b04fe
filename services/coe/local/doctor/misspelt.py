"""Environment variables that look like settings but are not. Nothing else would report that they have no effect."""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module

from coe.local.doctor.check import Check, Level, judged

_ALIKE = 0.8


def misspelt_check(environment: Iterable[str]) -> Check:
    # Imported late: the packages that the settings need are checked first.
    try:
        known = import_module("coe.local.settings_docs").names()
    except ImportError as error:
        return Check("settings", Level.PROBLEM, str(error), "make setup")
    unknown = sorted(name for name in environment if name.startswith("COE_") and name not in known)
    meant = {name: found[0] for name in unknown if (found := get_close_matches(name, known, 1, _ALIKE))}
    said = ", ".join(f"{name} is not a setting; did you mean {known_as}?" for name, known_as in meant.items())
    fix = "correct the services' environment; docs/settings.md lists all settings"
    return judged("settings", not meant, said or "no misspelt names", fix, otherwise=Level.WARNING)
