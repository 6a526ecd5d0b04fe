"""KEDA's and the Prometheus operator's objects against the definitions that those projects release."""

import json
from functools import cache
from typing import Any

import pytest
import yaml

from support.helm import EVERYTHING, SECRETS, TOOLS, Documents, of_kind, render, strict_schema

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")

SCHEMAS = {
    "ScaledObject": "keda.sh_scaledobjects.yaml",
    "TriggerAuthentication": "keda.sh_triggerauthentications.yaml",
    "ServiceMonitor": "monitoring.coreos.com_servicemonitors.yaml",
    "PrometheusRule": "monitoring.coreos.com_prometheusrules.yaml",
}


def schema_file(name: str) -> str:
    path = TOOLS / "schemas" / name
    if not path.exists():
        pytest.skip(f"{name} is not there: `make deploy-tools` fetches it (it needs Go)")
    return path.read_text()


@cache
def definition(kind: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(schema_file(SCHEMAS[kind]))
    return found


@pytest.fixture(scope="module")
def documents(helm: str) -> Documents:
    return render(helm, EVERYTHING)


def errors(document: dict[str, Any]) -> list[str]:
    group, _, version = document["apiVersion"].partition("/")
    described = definition(document["kind"])
    assert described["spec"]["group"] == group
    validator = jsonschema.Draft202012Validator(strict_schema(described, version))
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(document)]


@pytest.mark.parametrize(
    ("kind", "count"),
    [("ScaledObject", 3), ("TriggerAuthentication", 1), ("ServiceMonitor", 1), ("PrometheusRule", 1)],
)
def test_the_definition_accepts_it(documents: Documents, kind: str, count: int) -> None:
    found = of_kind(documents, kind)
    assert len(found) == count
    for document in found:
        assert errors(document) == []


def test_a_wrong_field_would_be_found(documents: Documents) -> None:
    (monitor,) = of_kind(documents, "ServiceMonitor")
    monitor = json.loads(json.dumps(monitor))
    monitor["spec"]["endpoints"][0]["intervall"] = "30s"
    assert len(errors(monitor)) == 1


@pytest.mark.parametrize("values", [EVERYTHING, SECRETS], ids=["certificates", "password"])
def test_every_trigger_gets_what_its_scaler_reads(helm: str, values: dict[str, str]) -> None:
    documents = render(helm, values)
    scalers = json.loads(schema_file("scalers-schema.json"))["scalers"]
    parameters = {scaler["type"]: {one["name"]: one for one in scaler["parameters"]} for scaler in scalers}
    (authentication,) = of_kind(documents, "TriggerAuthentication")
    secrets = {one["parameter"] for one in authentication["spec"]["secretTargetRef"]}
    for document in of_kind(documents, "ScaledObject"):
        for trigger in document["spec"]["triggers"]:
            known = parameters[trigger["type"]]
            given = trigger["metadata"]
            for name, value in given.items():
                assert known[name].get("metadataVariableReadable"), name
                assert value in known[name].get("allowedValue", [value])
            needed = {
                name for name, one in known.items() if not one.get("optional") and "default" not in one
            } - given.keys()
            assert not needed
            if "authenticationRef" in trigger:
                assert trigger["authenticationRef"]["name"] == authentication["metadata"]["name"]
                assert all(known[name]["triggerAuthenticationVariableReadable"] for name in secrets)
