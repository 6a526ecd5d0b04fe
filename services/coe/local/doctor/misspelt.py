"""Variables that look like settings and are none: they change nothing, and nothing else says so."""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module

from coe.local.doctor.check import Check, Level, judged

_ALIKE = 0.8


def misspelt_check(environment: Iterable[str]) -> Check:
    # Not before the packages that the services' settings need have been looked at.
    try:
        known = import_module("coe.local.settings_docs").names()
    except ImportError as error:
        return Check("settings", Level.PROBLEM, str(error), "make setup")
    unknown = sorted(name for name in environment if name.startswith("COE_") and name not in known)
    meant = {name: found[0] for name in unknown if (found := get_close_matches(name, known, 1, _ALIKE))}
    said = ", ".join(f"{name} is no setting, {known_as} is one" for name, known_as in meant.items())
    fix = "the environment that services start with: docs/settings.md lists what they read"
    return judged("settings", not meant, said or "none misspelt", fix, otherwise=Level.WARNING)
