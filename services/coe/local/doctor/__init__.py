"""What the embedded stack needs of a machine: each prerequisite looked at, and the mend when it is not met."""

from coe.local.doctor.arenas import arena_check
from coe.local.doctor.check import Check, Level
from coe.local.doctor.decisions import mapper_checks, router_check
from coe.local.doctor.experts import experts_check
from coe.local.doctor.machine import machine_checks
from coe.local.doctor.software import software_checks
from coe.platform.settings import CoreSettings

__all__ = ["Check", "Level", "examine"]


def examine() -> list[Check]:
    """All checks, in the order in which they are best mended."""
    home = CoreSettings().home
    machine = [*software_checks(), *machine_checks(), arena_check()]
    return [*machine, experts_check(home), router_check(home), *mapper_checks(home)]
