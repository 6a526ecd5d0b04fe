"""Capacities and bandwidths of machines' memory tiers, with their sources. In bytes and bytes per second."""

from collections.abc import Mapping
from dataclasses import dataclass

from coe.memory_tier_manager.tiers import Tier

GIB = 1024**3


@dataclass(frozen=True, slots=True)
class TierProfile:
    """`disk_to_ddr` and `ddr_to_hbm` are bandwidths; 0: not modelled, a copy takes as long as it takes here."""

    name: str
    source: str
    ddr_bytes: int
    hbm_bytes: int
    disk_to_ddr: float
    ddr_to_hbm: float

    def modelled_copy_s(self, found_in: Tier, nbytes: int) -> float:
        """Seconds to bring `nbytes` from `found_in` into HBM on this hardware; 0 if not modelled."""
        if found_in is Tier.HBM or not self.ddr_to_hbm:
            return 0.0
        copy_s = nbytes / self.ddr_to_hbm
        if found_in is Tier.DISK and self.disk_to_ddr:
            copy_s += nbytes / self.disk_to_ddr
        return copy_s

    def modelled_moves_s(self, into_ddr: int, into_hbm: int) -> float:
        """Seconds to move these bytes into each tier on this hardware, one after the other.

        Bytes that bypass DDR are counted only for their way into HBM.
        """
        disk_s = into_ddr / self.disk_to_ddr if self.disk_to_ddr else 0.0
        return disk_s + (into_hbm / self.ddr_to_hbm if self.ddr_to_hbm else 0.0)


# Copies are real and run at the machine's own speed: nothing to model.
HOST = TierProfile("host", "this machine", 0, 0, 0.0, 0.0)

# One socket: 1.5 TiB DDR at 200 GB/s, 64 GiB HBM (arXiv 2405.07518, section III and Table II). The disk is our
# assumption: a data-centre NVMe drive.
SN40L = TierProfile("sn40l", "arXiv 2405.07518, one socket", 1536 * GIB, 64 * GIB, 7e9, 200e9)

# Eight sockets: the paper's "> 1 TB/s" from DDR to HBM, taken as 1 TB/s (eight sockets would add up to 1.6).
SN40L_NODE = TierProfile("sn40l-node", "arXiv 2405.07518, eight sockets", 8 * 1536 * GIB, 8 * 64 * GIB, 7e9, 1e12)

PROFILES = {profile.name: profile for profile in (HOST, SN40L, SN40L_NODE)}

# The machines for which modelled times are reported, whatever a run ran on.
MODELLED = (SN40L, SN40L_NODE)


def moved(into_ddr: int, into_hbm: int) -> dict[str, float]:
    """The bytes that a run moved into each tier, and the modelled seconds per profile."""
    modelled = {profile.name: profile.modelled_moves_s(into_ddr, into_hbm) for profile in MODELLED}
    return {"into_ddr_bytes": into_ddr, "into_hbm_bytes": into_hbm, **{f"{name}_s": s for name, s in modelled.items()}}


def told(moves: Mapping[str, float]) -> str:
    """`moved` as text."""
    machines = ", ".join(f"{moves[f'{profile.name}_s']:.2f} s on {profile.name}" for profile in MODELLED)
    ddr, hbm = (moves[f"into_{tier}_bytes"] / 1e9 for tier in ("ddr", "hbm"))
    return f"moved {ddr:.2f} GB into DDR, {hbm:.2f} GB into HBM: {machines}"
