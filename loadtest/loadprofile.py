"""What a load test does, read from a YAML file in profiles/."""

from itertools import takewhile
from pathlib import Path
from typing import Literal, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from coe.platform.errors import InvalidPrompt

PROFILES = Path(__file__).with_name("profiles")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Phase(_Part):
    """A stretch of time with one mean rate. `rate` is prompts a second, `burst` how much the peaks exceed it."""

    duration_s: float = Field(gt=0)
    rate: float = Field(gt=0)
    arrivals: Literal["poisson", "bursty", "steady"] = "poisson"
    # Bursty: peaks of this times the mean rate, each `burst_s` long, silence between them.
    burst: float = Field(default=5.0, gt=1)
    burst_s: float = Field(default=0.5, gt=0)
    # Counted in the report; the warm-up is not.
    measured: bool = True


class Prompts(_Part):
    """What is asked. Empty `expert` and `category`: the router and the mapper decide."""

    expert: str = ""
    # Instead of one expert: the n-th of these is asked 1/n as often as the first, as popularity goes.
    experts: tuple[str, ...] = ()
    category: str = ""
    max_tokens: int = Field(default=16, ge=1, lt=2**32)
    # Words of filler in front of each question, to make prompts longer.
    padding_words: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _asks_whom(self) -> Self:
        if self.expert and self.experts:
            raise ValueError("either `expert` or `experts`")
        return self


class Bounds(_Part):
    """What makes the run fail. Ratios and counts, never wall times of one machine."""

    # Of all measured prompts.
    most_errors: float = Field(default=0.0, ge=0, le=1)
    # Completed during the measured time, divided by what the profile offered.
    least_throughput_ratio: float = Field(default=0.9, ge=0, le=1)
    # How much more CPU a prompt may cost than in the stored baseline, the speed of the machine taken out; and how much
    # later it may be answered, which whatever else runs on the machine moves far more.
    most_regression: float = Field(default=1.5, gt=1)
    most_slowdown: float = Field(default=4.0, gt=1)
    # How many times the memory, open files and threads of the first quarter of the measured time a service may have in
    # the last; answers are then held to `most_slowdown` between the two as well. None: nobody looks.
    most_growth: float | None = Field(default=None, gt=1)


class Profile(_Part):
    # Also of its baselines' files.
    name: str = Field(pattern=r"^[^/]+$")
    about: str = ""
    phases: tuple[Phase, ...] = Field(min_length=1)
    prompts: Prompts = Prompts()
    bounds: Bounds = Bounds()
    # Seconds after which a prompt without a terminal event counts as lost.
    timeout_s: float = Field(default=60.0, gt=0)
    seed: int = 1
    # Settings of the stack that the run starts (COE_*), when it starts one.
    stack: dict[str, str] = Field(default_factory=dict)

    @property
    def measured_from_s(self) -> float:
        """When the warm-up is over."""
        return sum(phase.duration_s for phase in takewhile(lambda phase: not phase.measured, self.phases))

    @property
    def measured_s(self) -> float:
        return sum(phase.duration_s for phase in self.phases if phase.measured)

    @model_validator(mode="after")
    def _measures(self) -> Self:
        """Rates are over one stretch of time."""
        measured = [number for number, phase in enumerate(self.phases) if phase.measured]
        if not measured:
            raise ValueError("phases: none is measured")
        if measured[-1] - measured[0] >= len(measured):
            raise ValueError("phases: one that is not measured stands between two that are")
        return self


def load(name_or_path: str) -> Profile:
    """A profile by its name in profiles/ or by its path. Raises InvalidPrompt when it is missing or wrong."""
    path = Path(name_or_path) if name_or_path.endswith((".yaml", ".yml")) else PROFILES / f"{name_or_path}.yaml"
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise InvalidPrompt(f"load profile {path}: settings by their names are wanted, such as `phases: [...]`")
        return Profile.model_validate({"name": path.stem} | fields)
    except FileNotFoundError:
        known = ", ".join(sorted(found.stem for found in PROFILES.glob("*.yaml")))
        raise InvalidPrompt(f"no load profile {path}; there are: {known}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, "))))
        raise InvalidPrompt(f"load profile {path}: {what}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidPrompt(f"load profile {path}: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise InvalidPrompt(f"load profile {path}: {error.strerror}") from None
