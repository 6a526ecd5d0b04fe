"""Load profiles: YAML files in profiles/ that define a load test."""

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
    """A period with one mean rate. `rate` is in prompts per second; `burst` is the peak rate relative to it."""

    duration_s: float = Field(gt=0)
    rate: float = Field(gt=0)
    arrivals: Literal["poisson", "bursty", "steady"] = "poisson"
    # Bursty: peaks of this multiple of the mean rate, each `burst_s` long, with silence in between.
    burst: float = Field(default=5.0, gt=1)
    burst_s: float = Field(default=0.5, gt=0)
    # Included in the report; false for a warm-up.
    measured: bool = True


class Prompts(_Part):
    """The prompts to send. With empty `expert` and `category`, router and mapper decide."""

    expert: str = ""
    # Instead of one expert: the n-th of these is used 1/n as often as the first (Zipf popularity).
    experts: tuple[str, ...] = ()
    category: str = ""
    max_tokens: int = Field(default=16, ge=1, lt=2**32)
    # Filler words before each question, to make prompts longer.
    padding_words: int = Field(default=0, ge=0)

    @model_validator(mode="after")
    def _asks_whom(self) -> Self:
        if self.expert and self.experts:
            raise ValueError("set either `expert` or `experts`, not both")
        return self


class Bounds(_Part):
    """Limits beyond which the run fails. Ratios and counts, never wall times of a particular machine."""

    # Share of the measured prompts that may fail.
    most_errors: float = Field(default=0.0, ge=0, le=1)
    # Completion rate divided by the rate that the profile offered.
    least_throughput_ratio: float = Field(default=0.9, ge=0, le=1)
    # Highest CPU per prompt and highest latency relative to the stored baseline, adjusted for the machine's speed.
    # Other load on the machine affects latency far more.
    most_regression: float = Field(default=1.5, gt=1)
    most_slowdown: float = Field(default=4.0, gt=1)
    # Highest ratio of a service's memory, open files and threads in the last quarter of the measured time to the first;
    # latency is then held to `most_slowdown` between the two as well. None: not checked.
    most_growth: float | None = Field(default=None, gt=1)


class Profile(_Part):
    # Also used in the file names of its baselines.
    name: str = Field(pattern=r"^[^/]+$")
    about: str = ""
    phases: tuple[Phase, ...] = Field(min_length=1)
    prompts: Prompts = Prompts()
    bounds: Bounds = Bounds()
    # Seconds after which a prompt without a terminal event counts as lost.
    timeout_s: float = Field(default=60.0, gt=0)
    seed: int = 1
    # Settings (COE_*) of the stack, if the run starts one.
    stack: dict[str, str] = Field(default_factory=dict)

    @property
    def measured_from_s(self) -> float:
        """When the warm-up ends."""
        return sum(phase.duration_s for phase in takewhile(lambda phase: not phase.measured, self.phases))

    @property
    def measured_s(self) -> float:
        return sum(phase.duration_s for phase in self.phases if phase.measured)

    @model_validator(mode="after")
    def _measures(self) -> Self:
        """The measured phases must be contiguous, because rates are over one period."""
        measured = [number for number, phase in enumerate(self.phases) if phase.measured]
        if not measured:
            raise ValueError("phases: at least one must be measured")
        if measured[-1] - measured[0] >= len(measured):
            raise ValueError("phases: an unmeasured phase stands between measured ones")
        return self


def load(name_or_path: str) -> Profile:
    """Loads a profile by its name in profiles/ or by path. Raises InvalidPrompt if it is missing or invalid."""
    path = Path(name_or_path) if name_or_path.endswith((".yaml", ".yml")) else PROFILES / f"{name_or_path}.yaml"
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
        if not isinstance(fields, dict):
            raise InvalidPrompt(f"load profile {path}: expected a mapping of settings, such as `phases: [...]`")
        return Profile.model_validate({"name": path.stem} | fields)
    except FileNotFoundError:
        known = ", ".join(sorted(found.stem for found in PROFILES.glob("*.yaml")))
        raise InvalidPrompt(f"no load profile {path}; available profiles: {known}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, "))))
        raise InvalidPrompt(f"load profile {path}: {what}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InvalidPrompt(f"load profile {path}: {' '.join(str(error).split())}") from None
    except OSError as error:
        raise InvalidPrompt(f"load profile {path}: {error.strerror}") from None
