"""The chart as Helm renders it, and the schemas of the kinds in it that are not Kubernetes' own."""

import copy
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "coe"
# `make deploy-tools` puts them there.
TOOLS = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "coe" / "tools"
# Built with `go install`, helm knows no newer Kubernetes by itself.
KUBERNETES = "1.33.0"
EVERYTHING = {
    "node.autoscaling.enabled": "true",
    "router.autoscaling.enabled": "true",
    "mapper.autoscaling.enabled": "true",
    "telemetry.serviceMonitor.enabled": "true",
    "telemetry.prometheusRule.enabled": "true",
    "telemetry.prometheusRule.labels.release": "monitoring",
    "telemetry.dashboards.enabled": "true",
    "experts.budgets.acme": "economy",
    "kafka.security": "SSL",
    "redis.url": "rediss+sentinel://a:26379/coe",
    "tls.secretName": "coe-tls",
    "tls.grpc": "mutual",
    "node.workers": "3",
}

# Passwords and keys in secrets, and what the values add to every part.
SECRETS = {
    "node.autoscaling.enabled": "true",
    "kafka.security": "SSL",
    "kafka.sasl.mechanism": "SCRAM-SHA-512",
    "kafka.sasl.existingSecret": "kafka-user",
    "redis.existingSecret": "redis",
    "extraEnv[0].name": "COE_MAX_PROMPT_BYTES",
    "extraEnv[0].value": "9000",
    "extraEnvFrom[0].configMapRef.name": "everywhere",
    "mapper.extraEnv[0].name": "COE_MAPPER_CANDIDATE",
    "mapper.extraEnv[0].value": "/etc/coe/mapping/mapping.yaml",
    "mapper.extraVolumes[0].name": "mapping",
    "mapper.extraVolumes[0].configMap.name": "mapping",
    "mapper.extraVolumeMounts[0].name": "mapping",
    "mapper.extraVolumeMounts[0].mountPath": "/etc/coe/mapping",
    "node.workerExtraEnv[0].name": "COE_WORKER_MAX_WAIT_S",
    "node.workerExtraEnv[0].value": "60",
    "node.managerExtraEnvFrom[0].secretRef.name": "manager",
}

Documents = list[dict[str, Any]]


def tool(name: str) -> str:
    """Its path. Skips the test where it is not there."""
    found = shutil.which(name) or shutil.which(name, path=str(TOOLS))
    if found is None:
        pytest.skip(f"{name} is not installed, and `make deploy-tools` could not build it (it needs Go)")
    return found


def render(helm: str, values: Mapping[str, str], chart: Path = CHART, release: str = "release") -> Documents:
    """Values are strings where they look like numbers in `extraEnv`, as everywhere in an environment."""
    settings = [
        part
        for name, value in values.items()
        for part in ("--set-string" if "Env[" in name else "--set", f"{name}={value}")
    ]
    command = [helm, "template", release, str(chart), "--namespace", "models", "--kube-version", KUBERNETES]
    done = subprocess.run([*command, *settings], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def of_kind(documents: Documents, *kinds: str) -> Documents:
    return [document for document in documents if document["kind"] in kinds]


def strict_schema(definition: Mapping[str, Any], version: str) -> dict[str, Any]:
    """JSON schema of one version of a CustomResourceDefinition, in which a field that it does not know is an error.

    Kubernetes would drop such a field with a warning.
    """
    (found,) = [one for one in definition["spec"]["versions"] if one["name"] == version and one["served"]]
    schema: dict[str, Any] = copy.deepcopy(found["schema"]["openAPIV3Schema"])
    _close(schema)
    schema["properties"]["metadata"].pop("additionalProperties", None)
    return schema


def _close(schema: Any) -> None:
    if isinstance(schema, list):
        for part in schema:
            _close(part)
    elif isinstance(schema, dict):
        closed = isinstance(schema.get("properties"), dict) and "additionalProperties" not in schema
        for part in schema.values():
            _close(part)
        if closed and not schema.get("x-kubernetes-preserve-unknown-fields"):
            schema["additionalProperties"] = False
