"""Tenants' budgets for prompts that name none: `budgets.yaml` in COE_HOME."""

from collections.abc import Mapping
from pathlib import Path

from coe._proto import common_pb2
from coe.mapper.yaml_file import read_yaml
from coe.platform.errors import ArtifactError

FILE_NAME = "budgets.yaml"


def read_budgets(path: Path) -> dict[str, common_pb2.Budget]:
    """Budgets by tenant: a name (`quality`, `balanced`, `economy`) or a number, average active parameters in billions.

    Empty when there is no file. Raises ArtifactError.
    """
    if not path.is_file():
        return {}
    data = read_yaml(path)
    if data is not None and not isinstance(data, dict):
        raise ArtifactError(f"{path.name} must map tenants to budgets", path=path)
    return {str(tenant): _budget(path, str(tenant), value) for tenant, value in (data or {}).items()}


def budget_of(asked: common_pb2.Budget, tenant: str, budgets: Mapping[str, common_pb2.Budget]) -> common_pb2.Budget:
    """The prompt's own budget, else its tenant's, else an empty one."""
    return asked if asked.WhichOneof("kind") else budgets.get(tenant, asked)


def _budget(path: Path, tenant: str, value: object) -> common_pb2.Budget:
    if isinstance(value, str) and value:
        return common_pb2.Budget(name=value)
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf"):
        return common_pb2.Budget(active_params_b=float(value))
    raise ArtifactError(f"{path.name}: the budget of {tenant!r} must be a name or a number of billions", path=path)
