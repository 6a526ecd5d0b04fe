"""The router's settings, from COE_ROUTER_* environment variables."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from coe.platform.settings import Settings


class RouterSettings(Settings):
    model_config = SettingsConfigDict(env_prefix="COE_ROUTER_")

    # None: the one trained here (COE_HOME/artifacts/router.safetensors) or, if there is none, the packaged one.
    artifact: Path | None = None
    # Folder of the ONNX encoder that the artifact was trained with. None: the packaged all-MiniLM-L6-v2.
    encoder: Path | None = None
    # Artifact on trial: it classifies every prompt too, differences are logged, and it decides for the canary share.
    candidate: Path | None = None
    # Share of prompts that the candidate decides.
    canary_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    # Seconds between checks for changed artifact and candidate files. 0: never.
    reload_s: Annotated[float, Field(ge=0)] = 5.0
    # A request id seen again within this many seconds is the same prompt and is not answered again (requires Redis).
    # 0: every record is a new prompt.
    duplicates_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 600.0
    # Threads of the encoder.
    threads: Annotated[int, Field(ge=1)] = 1
    # Maximum number of prompts classified together.
    max_batch: Annotated[int, Field(ge=1)] = 64
    # For load tests only: a fixed category instead of the encoder's. Refused unless allowed below.
    fixed_category: str = ""
    # Allows COE_ROUTER_FIXED_CATEGORY.
    allow_fixed: bool = False
