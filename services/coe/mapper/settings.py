"""The mapper's settings, from COE_MAPPER_* environment variables."""

from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from coe.mapper.replicas import Rule
from coe.platform.settings import Settings


class MapperSettings(Settings):
    model_config = SettingsConfigDict(env_prefix="COE_MAPPER_")

    # None: the one trained here (COE_HOME/artifacts/mapping.yaml) or, if there is none, the packaged one.
    mapping: Path | None = None
    # Mapping on trial: differences are logged, and `canary_share` of the prompts follow it.
    candidate: Path | None = None
    # Share of prompts that follow the candidate.
    canary_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    # Whether to determine a prompt's sub-category, if the mapping has sub-categories.
    parts: bool = True
    # Ids of the hosted bundles. None: those in COE_HOME/experts.
    experts: frozenset[str] = frozenset()
    # Seconds between checks for changed files.
    reload_s: Annotated[float, Field(gt=0)] = 1.0
    # Maximum number of prompts mapped together.
    max_batch: Annotated[int, Field(ge=1)] = 64
    # Number of waiting prompts for which an expert gets another replica, up to `max_replicas`.
    queued_per_replica: Annotated[int, Field(ge=1)] = 16
    # Maximum number of replicas of an expert.
    max_replicas: Annotated[int, Field(ge=1)] = 4
    # How many more waiting prompts are accepted at a worker that has the expert in HBM, compared with one that would
    # have to load it.
    load_worth: Annotated[int, Field(ge=0)] = 16
    # A prompt moves to a cheaper worker only if the difference exceeds one to three times this (randomized per
    # prompt).
    replica_slack: Annotated[int, Field(ge=0)] = 4

    def rule(self) -> Rule:
        return Rule(self.queued_per_replica, self.max_replicas, self.load_worth, self.replica_slack)
