"""Settings of the memory-tier manager, from COE_TIERS_*."""

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from coe.platform.settings import Settings

GIB = 1024**3


class TiersSettings(Settings):
    """Budgets in bytes, times in seconds."""

    model_config = SettingsConfigDict(env_prefix="COE_TIERS_")

    # Of the HBM tier: the shared memory that workers read weights from.
    hbm_bytes: int = Field(default=1 * GIB, ge=2 * 1024**2)
    # Of the DDR tier: weights locked in memory. An expert that does not fit is read from disk for each load.
    ddr_bytes: int = Field(default=4 * GIB, ge=0)
    # What the tiers cost: this machine, or published figures of an SN40L socket or node, which are reported beside.
    profile: Literal["host", "sn40l", "sn40l-node"] = "host"
    # Name of the shared-memory arena. Empty: made of the node's name.
    arena: str = ""
    # Who leaves HBM for another.
    eviction: Literal["lru", "fifo", "probability", "next-use"] = "next-use"
    # Slows copies into HBM to this many bytes a second. 0: as fast as the machine.
    link_bytes_per_s: float = Field(default=0.0, ge=0)
    # Of the copies into HBM.
    copy_threads: int = Field(default=2, ge=1)
    # Experts to hold in HBM whenever there is room: loaded at start, and again when the rush is over.
    default_experts: list[str] = Field(default=[])
    # An expert that was not used for so many seconds leaves HBM. 0: never.
    idle_ttl_s: float = Field(default=0.0, ge=0)
    # What a manager that died left in HBM stays so many seconds for workers that hold leases on it and come again.
    claim_s: float = Field(default=5.0, ge=0)
    # Who waits so many seconds for room in HBM gets it before anyone gets a new lease on what is in its place.
    recall_s: float = Field(default=5.0, ge=0)
    # The first layers of an expert that left HBM, as a share of its weights, may stay in room that nothing else needs.
    part_share: float = Field(default=0.0, ge=0, le=0.5)
    # Seconds that an expert's load may take.
    load_timeout_s: float = Field(default=60.0, gt=0)
    # Requests that may wait for room.
    max_waiting: int = Field(default=1024, ge=1)
    # Most experts in HBM at once.
    slots: int = Field(default=1024, ge=1, le=65536)
    # A file for the events of the run loop, which `coe replay` reads; that of the manager before becomes NAME.1. None:
    # no log.
    event_log: Path | None = None
    # A log that has grown to so many bytes becomes NAME.1, and another begins.
    event_log_bytes: int = Field(default=64 * 1024**2, ge=4096)
