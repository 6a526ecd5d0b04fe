"""The pool of experts that a mapping chooses from, with their sizes."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from coe.mapper.yaml_file import read_yaml
from coe.platform.errors import ArtifactError

PACKAGED = Path(__file__).parent / "artifacts" / "experts.yaml"


@dataclass(frozen=True, slots=True)
class PoolExpert:
    """Sizes in billions: `active_params_b` are used per token, `total_params_b` must be held in memory.

    The two differ for mixture-of-experts models.
    """

    name: str
    active_params_b: float
    total_params_b: float


def read_pool(path: Path = PACKAGED) -> dict[str, PoolExpert]:
    """Reads a YAML file of experts: `name: 7.6`, or `name: {active_params_b: 12.9, total_params_b: 46.7}`.

    The entries may be nested under a key `experts` or given as a list of `{name, active_params_b}`; `params_b` is an
    alias of `active_params_b`. Raises ArtifactError.
    """
    data = read_yaml(path)
    if isinstance(data, dict) and isinstance(data.get("experts"), dict | list):
        data = data["experts"]
    if isinstance(data, list):
        data = {entry.get("name"): entry for entry in data if isinstance(entry, dict)}
    if not isinstance(data, dict) or not data:
        raise ArtifactError(f"{path.name} must map each expert's name to its parameters in billions", path=path)
    return {str(name): parse_expert(str(name), value) for name, value in data.items()}


def parse_expert(name: str, value: object) -> PoolExpert:
    """Parses one entry of an experts file or of a mapping's pool. Raises ArtifactError."""
    fields = value if isinstance(value, dict) else {"active_params_b": value}
    active = fields.get("active_params_b", fields.get("params_b"))
    total = fields.get("total_params_b", active)
    for figure in (active, total):
        if isinstance(figure, bool) or not isinstance(figure, int | float) or not 0 < figure < float("inf"):
            raise ArtifactError(f"The parameters of {name!r} must be a positive number of billions", expert=name)
    assert isinstance(active, int | float)
    assert isinstance(total, int | float)
    if total < active:
        raise ArtifactError(f"{name!r} can't have more active parameters than it has in all", expert=name)
    return PoolExpert(name, float(active), float(total))


def select(models: Iterable[str], known: dict[str, PoolExpert]) -> tuple[list[PoolExpert], list[str]]:
    """Splits models into those with known sizes and the names of the others.

    Raises ArtifactError when no size is known.
    """
    models = list(models)
    pool = [known[model] for model in models if model in known]
    unknown = [model for model in models if model not in known]
    if not pool:
        raise ArtifactError(f"No parameter counts for any of {', '.join(unknown)}: name them in an experts file")
    return pool, unknown
