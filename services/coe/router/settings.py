"""The router's settings, from COE_ROUTER_* environment variables."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from coe.platform.settings import Settings


class RouterSettings(Settings):
    model_config = SettingsConfigDict(env_prefix="COE_ROUTER_")

    # None: the one trained here (COE_HOME/artifacts/router.safetensors), else the one that came with the package.
    artifact: Path | None = None
    # A folder with the ONNX encoder that the artifact was trained with. None: the packaged all-MiniLM-L6-v2.
    encoder: Path | None = None
    # An artifact to try: it judges every prompt, differences are logged, and it decides the canary share of them.
    candidate: Path | None = None
    # The share of prompts that the candidate decides.
    canary_share: Annotated[float, Field(ge=0, le=1)] = 0.0
    # Seconds between two looks at the files of artifact and candidate for a change. 0: never.
    reload_s: Annotated[float, Field(ge=0)] = 5.0
    # A request id that comes again within so many seconds is the same prompt, and not answered again (where Redis
    # answers). 0: every record is a prompt of its own.
    duplicates_s: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 600.0
    # Of the encoder.
    threads: Annotated[int, Field(ge=1)] = 1
    # Most prompts that are classified together.
    max_batch: Annotated[int, Field(ge=1)] = 64
    # For load tests only: a category for every prompt instead of the encoder's, refused unless it is allowed.
    fixed_category: str = ""
    # Allows COE_ROUTER_FIXED_CATEGORY.
    allow_fixed: bool = False
