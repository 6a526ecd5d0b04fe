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

    # Size of the HBM tier: the shared memory from which workers read weights.
    hbm_bytes: int = Field(default=1 * GIB, ge=2 * 1024**2)
    # Size of the DDR tier: weights locked in memory. An expert that does not fit is read from disk for every load.
    ddr_bytes: int = Field(default=4 * GIB, ge=0)
    # Costs of the tiers: this machine's, or published figures of an SN40L socket or node, which are then reported as
    # well.
    profile: Literal["host", "sn40l", "sn40l-node"] = "host"
    # Name of the shared-memory arena. Empty: derived from the node's name.
    arena: str = ""
    # Which experts leave HBM first.
    eviction: Literal["lru", "fifo", "probability", "next-use"] = "next-use"
    # Limits copies into HBM to this many bytes per second. 0: no limit.
    link_bytes_per_s: float = Field(default=0.0, ge=0)
    # Threads per copy into HBM.
    copy_threads: int = Field(default=2, ge=1)
    # Experts to keep in HBM whenever there is room: loaded at startup, and again when demand for others subsides.
    default_experts: list[str] = Field(default=[])
    # An expert unused for this many seconds leaves HBM. 0: never.
    idle_ttl_s: float = Field(default=0.0, ge=0)
    # Seconds for which experts left in HBM by a dead manager stay there, so that workers can reclaim their leases.
    claim_s: float = Field(default=5.0, ge=0)
    # A request that has waited this many seconds for room in HBM takes precedence over new leases on the experts in
    # its way.
    recall_s: float = Field(default=5.0, ge=0)
    # Share of an evicted expert's weights (its first layers) that may stay in otherwise unused HBM.
    part_share: float = Field(default=0.0, ge=0, le=0.5)
    # Seconds that loading an expert may take.
    load_timeout_s: float = Field(default=60.0, gt=0)
    # Maximum number of requests waiting for room.
    max_waiting: int = Field(default=1024, ge=1)
    # Maximum number of experts in HBM.
    slots: int = Field(default=1024, ge=1, le=65536)
    # File for the run loop's events, to be read by `coe replay`. The previous manager's log becomes NAME.1. None: no
    # log.
    event_log: Path | None = None
    # Size at which the event log is rotated to NAME.1.
    event_log_bytes: int = Field(default=64 * 1024**2, ge=4096)
