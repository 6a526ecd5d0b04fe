"""The mapper's settings, from COE_MAPPER_* environment variables."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from coe.mapper.replicas import Rule
from coe.platform.settings import Settings


class MapperSettings(Settings):
    model_config = SettingsConfigDict(env_prefix="COE_MAPPER_")

    # None: the one trained here (COE_HOME/artifacts/mapping.yaml), else the one that came with the package.
    mapping: Path | None = None
    # A newer mapping on trial: where it differs is logged, and `canary_share` of the prompts follow it.
    candidate: Path | None = None
    # The share of prompts that follow the candidate.
    canary_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    # Whether the part of its category that a prompt belongs to is found, where the mapping has parts.
    parts: bool = True
    # Ids of the hosted bundles. None: those in COE_HOME/experts.
    experts: frozenset[str] = frozenset()
    # Seconds between two looks at the files for changes.
    reload_s: Annotated[float, Field(gt=0)] = 1.0
    # Most prompts that are mapped together.
    max_batch: Annotated[int, Field(ge=1)] = 64
    # An expert gets another replica for so many waiting prompts, up to `max_replicas`.
    queued_per_replica: Annotated[int, Field(ge=1)] = 16
    # Most replicas of an expert.
    max_replicas: Annotated[int, Field(ge=1)] = 4
    # A worker that has the expert is taken although so many more prompts wait there than at one that would load it.
    load_worth: Annotated[int, Field(ge=0)] = 16
    # A prompt leaves its place for a cheaper worker only when the difference is one to three times this.
    replica_slack: Annotated[int, Field(ge=0)] = 4

    def rule(self) -> Rule:
        return Rule(self.queued_per_replica, self.max_replicas, self.load_worth, self.replica_slack)
