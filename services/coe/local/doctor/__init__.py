"""Checks every prerequisite of the embedded stack on this machine, with a fix for each that is not met."""

import os

from coe.local.doctor.arenas import arena_check
from coe.local.doctor.check import Check, Level
from coe.local.doctor.decisions import mapper_checks, router_check
from coe.local.doctor.experts import experts_check
from coe.local.doctor.home import disk_check, home_check, port_checks
from coe.local.doctor.machine import machine_checks
from coe.local.doctor.misspelt import misspelt_check
from coe.local.doctor.software import software_checks
from coe.platform.settings import CoreSettings

__all__ = ["Check", "Level", "examine"]


def examine() -> list[Check]:
    """All checks, in the order in which problems are best fixed."""
    home = CoreSettings().home
    checks = [*software_checks(), misspelt_check(os.environ), *machine_checks(), arena_check(), home_check(home)]
    if checks[-1].level is Level.PROBLEM:
        return checks
    here = [disk_check(home), *port_checks(home), experts_check(home)]
    return [*checks, *here, router_check(home), *mapper_checks(home)]
