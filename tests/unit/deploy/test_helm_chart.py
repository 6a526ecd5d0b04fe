"""The chart as Helm renders it: linted, valid by Kubernetes' own schemas, and in step with the code."""

import json
import subprocess
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from coe.expert_worker.settings import WorkerSettings
from coe.gateway.settings import GatewaySettings
from coe.memory_tier_manager.settings import TiersSettings
from coe.platform import topics
from coe.platform.settings import CoreSettings, GrpcSettings
from support.helm import CHART, EVERYTHING, KUBERNETES, of_kind, render

VALUES: dict[str, dict[str, str]] = {"default": {}, "everything": EVERYTHING}


@pytest.fixture(params=VALUES)
def rendered(helm: str, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return render(helm, VALUES[request.param])


def containers(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pods = [document["spec"]["template"]["spec"] for document in of_kind(documents, "Deployment", "StatefulSet")]
    return [container for pod in pods for container in (*pod.get("initContainers", ()), *pod["containers"])]


def environment(container: Mapping[str, Any]) -> dict[str, Any]:
    return {variable["name"]: variable.get("value") for variable in container["env"]}


def test_lint(helm: str) -> None:
    done = subprocess.run(
        [helm, "lint", "--strict", str(CHART)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_kubernetes_accepts_it(rendered: list[dict[str, Any]]) -> None:
    validator = pytest.importorskip("kubernetes_validate", reason="the schemas of Kubernetes are not installed")
    for document in rendered:
        if (
            "." in document["apiVersion"].partition("/")[0].removesuffix(".k8s.io")
            and "k8s.io" not in document["apiVersion"]
        ):
            continue  # KEDA's and the Prometheus operator's: test_custom_kinds.py
        validator.validate(document, KUBERNETES.rpartition(".")[0], strict=True)


def test_objects_belong_together(rendered: list[dict[str, Any]]) -> None:
    workloads = of_kind(rendered, "Deployment", "StatefulSet")
    labels = {one["metadata"]["name"]: one["spec"]["template"]["metadata"]["labels"] for one in workloads}
    assert set(labels) == {f"release-{name}" for name in ("router", "mapper", "gateway", "node")}
    for document in of_kind(rendered, "Service", "PodDisruptionBudget", "NetworkPolicy"):
        spec, name = document["spec"], document["metadata"]["name"]
        selector = spec.get("podSelector") or spec["selector"]
        wanted = selector.get("matchLabels", selector)
        selected = {pod for pod, found in labels.items() if wanted.items() <= found.items()}
        assert selected == (set(labels) if name == "release-metrics" else {name})
    for document in of_kind(rendered, "ScaledObject"):
        target = document["spec"]["scaleTargetRef"]
        assert (target["kind"], target["name"]) in {(one["kind"], one["metadata"]["name"]) for one in workloads}


def test_containers_are_unprivileged_bounded_and_probed(rendered: list[dict[str, Any]]) -> None:
    for container in containers(rendered):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"], container["name"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        if container["name"] != "prepare":
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


def test_every_setting_is_one_that_the_code_reads(rendered: list[dict[str, Any]]) -> None:
    known = {f"COE_{name.upper()}" for name in CoreSettings.model_fields}
    known |= {f"COE_GRPC_{name.upper()}" for name in GrpcSettings.model_fields}
    known |= {f"COE_WORKER_{name.upper()}" for name in WorkerSettings.model_fields}
    known |= {f"COE_TIERS_{name.upper()}" for name in TiersSettings.model_fields}
    known |= {"COE_TLS_CA", "COE_TLS_CERT", "COE_TLS_KEY", "COE_MAPPER_EXPERTS", "COE_STACK_REPLICAS"}
    known |= {f"COE_GATEWAY_{name.upper()}" for name in GatewaySettings.model_fields}
    for container in containers(rendered):
        assert environment(container).keys() <= known, container["name"]


def test_a_node_shares_memory_that_holds_its_hbm_tier(rendered: list[dict[str, Any]]) -> None:
    (node,) = of_kind(rendered, "StatefulSet")
    pod = node["spec"]["template"]["spec"]
    (arena,) = [volume for volume in pod["volumes"] if volume["name"] == "arena"]
    assert arena["emptyDir"]["medium"] == "Memory"
    manager, *workers = pod["containers"]
    size = int(arena["emptyDir"]["sizeLimit"].removesuffix("Mi")) * 2**20
    assert size >= int(environment(manager)["COE_TIERS_HBM_BYTES"])
    for container in (manager, *workers):
        assert {"name": "arena", "mountPath": "/dev/shm"} in container["volumeMounts"]
    ports = [port["containerPort"] for container in pod["containers"] for port in container["ports"]]
    names = [port["name"] for container in pod["containers"] for port in container["ports"]]
    assert len(set(ports)) == len(ports)
    assert len(set(names)) == len(names)
    assert all(len(name) <= 15 for name in names)


def test_metrics_of_every_container_are_fetched(helm: str) -> None:
    documents = render(helm, EVERYTHING)
    (monitor,) = of_kind(documents, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (service,) = [one for one in of_kind(documents, "Service") if wanted <= one["metadata"]["labels"].items()]
    targets = {port["name"]: port["targetPort"] for port in service["spec"]["ports"]}
    fetched = {targets[endpoint["port"]] for endpoint in monitor["spec"]["endpoints"]}
    exposed = {
        port["name"]: str(port["containerPort"])
        for container in containers(documents)
        for port in container.get("ports", ())
        if environment(container)["COE_METRICS_PORT"] == str(port["containerPort"])
    }
    assert fetched == set(exposed)


def test_scaling_follows_topics_that_exist(helm: str) -> None:
    scaled = of_kind(render(helm, EVERYTHING), "ScaledObject")
    assert len(scaled) == 3
    partitions = {spec.name: spec.partitions for spec in topics.SPECS}
    for document in scaled:
        triggers = {trigger["type"]: trigger["metadata"] for trigger in document["spec"]["triggers"]}
        assert document["spec"]["maxReplicaCount"] <= partitions[triggers["kafka"]["topic"]]


@pytest.mark.parametrize(
    "wrong", [{"node.policy": "random"}, {"kafka.bootstrap": "no-port"}, {"nodes.replicas": "2"}, {"tls.grpc": "maybe"}]
)
def test_wrong_values_are_refused(helm: str, wrong: dict[str, str]) -> None:
    with pytest.raises(AssertionError, match="don't meet the specifications of the schema"):
        render(helm, wrong)


def test_the_schema_knows_every_value() -> None:
    """Without helm: `additionalProperties` is off everywhere, so the two files must name the same things."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(value: Any, part: dict[str, Any], path: str) -> None:
        if "$ref" in part:
            part = schema["definitions"][part["$ref"].rpartition("/")[2]]
        if isinstance(value, dict) and "properties" in part:
            assert part["additionalProperties"] is False, path
            assert value.keys() <= part["properties"].keys(), path
            for name, inner in value.items():
                compare(inner, part["properties"][name], f"{path}.{name}")

    compare(values, schema, "values")
