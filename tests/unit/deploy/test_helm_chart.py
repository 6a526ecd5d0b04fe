"""The chart as Helm renders it: linted, valid by Kubernetes' own schemas, and in step with the code."""

import json
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from coe.expert_worker.settings import WorkerSettings
from coe.gateway.settings import GatewaySettings
from coe.mapper.bindings import FILE_NAME as BINDINGS
from coe.mapper.settings import MapperSettings
from coe.mapper.tenants import FILE_NAME as BUDGETS
from coe.memory_tier_manager.settings import TiersSettings
from coe.platform import topics
from coe.platform.bus.kafka.connection import Connection
from coe.platform.rpc.endpoint import LIVENESS
from coe.platform.sasl import SaslSettings
from coe.platform.settings import CoreSettings, GrpcSettings
from support.helm import CHART, EVERYTHING, KUBERNETES, SECRETS, of_kind, render

ROOT = Path(__file__).resolve().parents[3]
VALUES: dict[str, dict[str, str]] = {"default": {}, "everything": EVERYTHING, "secrets": SECRETS}


@pytest.fixture(params=VALUES)
def rendered(helm: str, request: pytest.FixtureRequest) -> list[dict[str, Any]]:
    return render(helm, VALUES[request.param])


def containers(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    pods = [document["spec"]["template"]["spec"] for document in of_kind(documents, "Deployment", "StatefulSet")]
    return [container for pod in pods for container in (*pod.get("initContainers", ()), *pod["containers"])]


def served(pod: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Containers that stay: those among the init containers first."""
    early = [one for one in pod.get("initContainers", ()) if one.get("restartPolicy") == "Always"]
    return [*early, *pod["containers"]]


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


def test_the_page_says_how_to_build_every_image(rendered: list[dict[str, Any]]) -> None:
    wanted = {container["image"].split("/")[-1].split(":")[0] for container in containers(rendered)}
    page, dockerfile = (ROOT / name for name in ("docs/operations/README.md", "compose/Dockerfile"))
    (built,) = re.findall(r"^for name in ([a-z -]+); do$", page.read_text(), re.MULTILINE)
    assert set(built.split()) == wanted
    assert wanted <= set(re.findall(r"^FROM \S+ AS (\S+)$", dockerfile.read_text(), re.MULTILINE))


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


def test_the_longest_release_name_has_pods(helm: str) -> None:
    """Helm's longest. Kubernetes' bounds: of a name that is a host's, and of the label `controller-revision-hash`."""
    documents = render(helm, EVERYTHING, release="r" * 53)
    named = {(one["kind"], one["metadata"]["name"]) for one in documents}
    assert len(named) == len(documents)
    assert max(len(name) for _, name in named) <= 63
    (node,) = of_kind(documents, "StatefulSet")
    assert len(f"{node['metadata']['name']}-{2**32 - 1}") <= 63


def test_containers_are_unprivileged_bounded_and_probed(rendered: list[dict[str, Any]]) -> None:
    for container in containers(rendered):
        security = container["securityContext"]
        assert security["readOnlyRootFilesystem"], container["name"]
        assert security["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        if container["name"] != "prepare":
            assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()
            # Health also says no while a service waits for Kafka: nothing to restart it for.
            assert "tcpSocket" in container["startupProbe"]
            assert container["livenessProbe"].get("grpc", {}).get("service") in (None, LIVENESS)


def test_who_hangs_is_restarted_where_the_kubelet_can_ask(helm: str) -> None:
    everyone = {"gateway", "router", "mapper", "memory-tier-manager"}
    for settings, asked in ((VALUES["default"], everyone), (EVERYTHING, set[str]())):
        probes = {one["name"]: one.get("livenessProbe", {}) for one in containers(render(helm, settings))}
        assert {name for name, probe in probes.items() if "grpc" in probe} == asked


def test_every_setting_is_one_that_the_code_reads(rendered: list[dict[str, Any]]) -> None:
    known = {f"COE_{name.upper()}" for name in CoreSettings.model_fields}
    known |= {f"COE_GRPC_{name.upper()}" for name in GrpcSettings.model_fields}
    known |= {f"COE_WORKER_{name.upper()}" for name in WorkerSettings.model_fields}
    known |= {f"COE_TIERS_{name.upper()}" for name in TiersSettings.model_fields}
    known |= {f"COE_MAPPER_{name.upper()}" for name in MapperSettings.model_fields}
    known |= {f"COE_KAFKA_SASL_{name.upper()}" for name in SaslSettings.model_fields}
    known |= {"COE_TLS_CA", "COE_TLS_CERT", "COE_TLS_KEY", "COE_STACK_REPLICAS"}
    known |= {f"COE_GATEWAY_{name.upper()}" for name in GatewaySettings.model_fields}
    for container in containers(rendered):
        assert environment(container).keys() <= known, container["name"]


def test_a_node_shares_memory_that_holds_its_hbm_tier(rendered: list[dict[str, Any]]) -> None:
    (node,) = of_kind(rendered, "StatefulSet")
    pod = node["spec"]["template"]["spec"]
    (arena,) = [volume for volume in pod["volumes"] if volume["name"] == "arena"]
    assert arena["emptyDir"]["medium"] == "Memory"
    manager, *workers = served(pod)
    size = int(arena["emptyDir"]["sizeLimit"].removesuffix("Mi")) * 2**20
    assert size >= int(environment(manager)["COE_TIERS_HBM_BYTES"])
    for container in (manager, *workers):
        assert {"name": "arena", "mountPath": "/dev/shm"} in container["volumeMounts"]
    ports = [port["containerPort"] for container in served(pod) for port in container["ports"]]
    names = [port["name"] for container in served(pod) for port in container["ports"]]
    assert len(set(ports)) == len(ports)
    assert len(set(names)) == len(names)
    assert all(len(name) <= 15 for name in names)


@pytest.mark.parametrize(
    ("shared", "hbm", "needed"), [("1Gi", 1022 << 20, 0), ("1Gi", (1022 << 20) + 1, 1026), ("96Mi", 96 << 20, 98)]
)
def test_hbm_that_its_memory_does_not_hold_is_refused(helm: str, shared: str, hbm: int, needed: int) -> None:
    values = {"node.sharedMemory": shared, "node.hbmBytes": str(hbm)}
    if not needed:
        assert render(helm, values)
        return
    with pytest.raises(AssertionError, match=rf"node\.sharedMemory is {shared}, node\.hbmBytes need {needed}Mi of it"):
        render(helm, values)


def test_metrics_of_every_container_are_fetched(helm: str) -> None:
    documents = render(helm, EVERYTHING)
    (monitor,) = of_kind(documents, "ServiceMonitor")
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    (service,) = [one for one in of_kind(documents, "Service") if wanted <= one["metadata"]["labels"].items()]
    targets = {port["name"]: port["targetPort"] for port in service["spec"]["ports"]}
    fetched = {targets[endpoint["port"]] for endpoint in monitor["spec"]["endpoints"]}
    for container in containers(documents):
        for port in container.get("ports", ()):
            if environment(container)["COE_METRICS_PORT"] == str(port["containerPort"]):
                # By one target and no more: what is fetched twice counts twice.
                assert len({port["name"], port["containerPort"]} & fetched) == 1, container["name"]


def test_whoever_measures_reaches_every_metrics_port(helm: str) -> None:
    documents = render(helm, EVERYTHING)
    for policy in of_kind(documents, "NetworkPolicy"):
        (pod,) = [
            one["spec"]["template"]["spec"]
            for one in of_kind(documents, "Deployment", "StatefulSet")
            if one["metadata"]["name"] == policy["metadata"]["name"]
        ]
        (rule,) = [one for one in policy["spec"]["ingress"] if "namespaceSelector" in str(one)]
        allowed = {port["port"] for port in rule["ports"]}
        for container in served(pod):
            number = int(environment(container)["COE_METRICS_PORT"])
            names = {port["name"] for port in container["ports"] if port["containerPort"] == number}
            assert {number, *names} & allowed, container["name"]


def test_scaling_follows_topics_that_exist(helm: str) -> None:
    scaled = of_kind(render(helm, EVERYTHING), "ScaledObject")
    assert len(scaled) == 3
    partitions = {spec.name: spec.partitions for spec in topics.SPECS}
    for document in scaled:
        triggers = {trigger["type"]: trigger["metadata"] for trigger in document["spec"]["triggers"]}
        assert document["spec"]["maxReplicaCount"] <= partitions[triggers["kafka"]["topic"]]
        ours = Connection("a:1", "test").consumer("group")
        assert triggers["kafka"]["offsetResetPolicy"] == ours["auto_offset_reset"]
        # By itself KEDA speaks as to brokers of 1.0.
        assert triggers["kafka"]["version"] == "2.5.0"
        if "prometheus" in triggers:
            # Another release of the namespace waits for itself.
            (pods,) = re.findall(r'pod=~"(.+?)"', triggers["prometheus"]["query"])
            assert re.fullmatch(pods, f"{document['spec']['scaleTargetRef']['name']}-0")
            assert not re.fullmatch(pods, "other-node-0")


def test_secrets_are_read_where_they_are(helm: str) -> None:
    documents = render(helm, SECRETS)
    wanted = {
        "COE_REDIS_URL": ("redis", "url"),
        "COE_KAFKA_SASL_USERNAME": ("kafka-user", "username"),
        "COE_KAFKA_SASL_PASSWORD": ("kafka-user", "password"),
    }
    for container in containers(documents):
        if container["name"] == "prepare":
            continue
        read = {
            one["name"]: (one["valueFrom"]["secretKeyRef"]["name"], one["valueFrom"]["secretKeyRef"]["key"])
            for one in container["env"]
            if "secretKeyRef" in one.get("valueFrom", {})
        }
        assert read == wanted
    (scaled,) = of_kind(documents, "ScaledObject")
    kafka = next(one for one in scaled["spec"]["triggers"] if one["type"] == "kafka")
    assert (kafka["metadata"]["sasl"], kafka["metadata"]["tls"]) == ("scram_sha512", "enable")
    with pytest.raises(AssertionError, match=r"kafka\.sasl\.mechanism needs kafka\.sasl\.existingSecret"):
        render(helm, {"kafka.sasl.mechanism": "PLAIN"})


def test_every_part_takes_settings_of_its_own(helm: str) -> None:
    documents = render(helm, SECRETS)
    found = {container["name"]: container for container in containers(documents)}
    for container in found.values():
        assert environment(container)["COE_MAX_PROMPT_BYTES"] == "9000", container["name"]
        assert {"configMapRef": {"name": "everywhere"}} in container["envFrom"]
    assert environment(found["mapper"])["COE_MAPPER_CANDIDATE"] == "/etc/coe/mapping/mapping.yaml"
    assert {"name": "mapping", "mountPath": "/etc/coe/mapping"} in found["mapper"]["volumeMounts"]
    assert environment(found["expert-worker-1"])["COE_WORKER_MAX_WAIT_S"] == "60"
    assert "COE_WORKER_MAX_WAIT_S" not in environment(found["memory-tier-manager"])
    assert {"secretRef": {"name": "manager"}} in found["memory-tier-manager"]["envFrom"]
    for part in ("router", "mapper", "gateway"):
        (container,) = (
            one
            for one in containers(
                render(helm, {f"{part}.extraEnv[0].name": "COE_TRACES_PER_S", f"{part}.extraEnv[0].value": "1"})
            )
            if "COE_TRACES_PER_S" in environment(one)
        )
        assert container["name"] == part


def test_a_setting_that_the_chart_makes_is_not_set_twice(helm: str) -> None:
    twice = {"router.extraEnv[0].name": "COE_KAFKA_BOOTSTRAP", "router.extraEnv[0].value": "other:9092"}
    with pytest.raises(AssertionError, match="COE_KAFKA_BOOTSTRAP of extraEnv is set already"):
        render(helm, twice)


@pytest.mark.parametrize(("seconds", "grace"), [(10, 5), (60, 30), (120, 90), (600, 570)])
def test_a_node_that_must_go_lets_its_answers_end(helm: str, seconds: int, grace: int) -> None:
    (node,) = of_kind(render(helm, {"node.terminationGraceSeconds": str(seconds)}), "StatefulSet")
    pod = node["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] == seconds
    for worker in pod["containers"]:
        assert environment(worker)["COE_WORKER_GRACE_S"] == str(grace)
    # The weights end with the manager: Kubernetes ends such a container after the others.
    (manager,) = [one for one in pod["initContainers"] if one["name"] == "memory-tier-manager"]
    assert manager["restartPolicy"] == "Always"
    assert pod["initContainers"][-1] is manager


@pytest.mark.parametrize(("seconds", "grace"), [(15, 5), (45, 35), (600, 590)])
def test_a_gateway_that_must_go_lets_its_answers_end(helm: str, seconds: int, grace: int) -> None:
    documents = of_kind(render(helm, {"gateway.terminationGraceSeconds": str(seconds)}), "Deployment")
    pods = {one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in documents}
    pod = pods["release-gateway"]
    assert pod["terminationGracePeriodSeconds"] == seconds
    (gateway,) = pod["containers"]
    assert environment(gateway)["COE_GRPC_GRACE_S"] == str(grace)
    # What is slept first counts too.
    assert int(gateway["lifecycle"]["preStop"]["exec"]["command"][1]) + grace <= seconds
    assert pods["release-router"]["terminationGracePeriodSeconds"] == 45


def test_callers_come_to_gateways_that_were_added(helm: str) -> None:
    """Nobody but workers calls a node's manager, and router and mapper are called over Kafka."""
    ages = {
        container["name"]: age
        for container in containers(render(helm, {"gateway.maxConnectionAgeSeconds": "60"}))
        if (age := environment(container).get("COE_GRPC_MAX_CONNECTION_AGE_S"))
    }
    assert ages == {"gateway": "60"}


def test_pods_and_the_front_door_take_annotations(helm: str) -> None:
    documents = render(helm, {"podAnnotations.a": "b", "gateway.service.annotations.c": "d"})
    for workload in of_kind(documents, "Deployment", "StatefulSet"):
        found = workload["spec"]["template"]["metadata"]["annotations"]
        assert found["a"] == "b"
        # Its files are mounted one by one, and do not change under a pod.
        assert ("checksum/bindings" in found) == (workload["metadata"]["name"] == "release-mapper")
    services = {one["metadata"]["name"]: one["metadata"] for one in of_kind(documents, "Service")}
    annotated = {name for name, metadata in services.items() if metadata.get("annotations") == {"c": "d"}}
    assert annotated == {"release-gateway"}


def test_every_part_may_choose_its_machines(helm: str) -> None:
    parts = ("router", "mapper", "gateway", "node")
    settings = {f"{part}.nodeSelector.kubernetes\\.io/arch": "amd64" for part in parts}
    settings |= {f"{part}.tolerations[0].key": part for part in parts}
    rule = (
        "affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchFields[0].key"
    )
    settings |= {f"{part}.{rule}": part for part in parts}
    settings |= {f"{part}.priorityClassName": part for part in parts}
    for workload in of_kind(render(helm, settings), "Deployment", "StatefulSet"):
        pod = workload["spec"]["template"]["spec"]
        assert pod["nodeSelector"] == {"kubernetes.io/arch": "amd64"}
        (term,) = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
        chosen = {pod["tolerations"][0]["key"], term["matchFields"][0]["key"], pod["priorityClassName"]}
        assert {f"release-{part}" for part in chosen} == {workload["metadata"]["name"]}


@pytest.mark.parametrize(("settings", "kept"), [({}, "Retain"), ({"node.storage.whenDeleted": "Delete"}, "Delete")])
def test_experts_outlive_the_release_unless_told_otherwise(helm: str, settings: dict[str, str], kept: str) -> None:
    (node,) = of_kind(render(helm, settings), "StatefulSet")
    assert node["spec"]["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": kept, "whenScaled": "Retain"}


def test_budgets_of_tenants_are_where_the_mapper_looks(helm: str) -> None:
    documents = render(helm, EVERYTHING)
    (mapper,) = [one for one in containers(documents) if one["name"] == "mapper"]
    mounted = {mount["mountPath"]: mount["subPath"] for mount in mapper["volumeMounts"] if "subPath" in mount}
    assert mounted == {f"/var/lib/coe/{name}": name for name in (BINDINGS, BUDGETS)}
    (config,) = [one for one in of_kind(documents, "ConfigMap") if one["metadata"]["name"] == "release-bindings"]
    assert yaml.safe_load(config["data"][BUDGETS]) == {"acme": "economy"}


def test_alerts_and_dashboards_are_those_of_compose(helm: str, tmp_path: Path) -> None:
    """Out of the package that is released: Helm puts nothing into it that lies outside of the chart."""
    subprocess.run([helm, "package", str(CHART), "--destination", str(tmp_path)], check=True, capture_output=True)
    (package,) = tmp_path.glob("coe-*.tgz")
    documents = render(helm, EVERYTHING, package)
    (rule,) = of_kind(documents, "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((CHART / "files" / "alerts.yaml").read_text())
    assert rule["metadata"]["labels"]["release"] == "monitoring"
    (config,) = [one for one in of_kind(documents, "ConfigMap") if "grafana_dashboard" in one["metadata"]["labels"]]
    files = {path.name: path.read_text() for path in (CHART / "files" / "dashboards").glob("*.json")}
    assert len(files) == 4
    assert config["data"] == files


def test_a_chart_of_a_build_has_labels(helm: str, tmp_path: Path) -> None:
    """Versions may have a plus, labels not."""
    built = ["--version", "0.1.0+g1a2b3c", "--app-version", "0.1.1.dev9+g1a2b3c"]
    subprocess.run(
        [helm, "package", str(CHART), *built, "--destination", str(tmp_path)], check=True, capture_output=True
    )
    (package,) = tmp_path.glob("coe-*.tgz")
    for document in render(helm, {"image.tag": "g1a2b3c"}, package):
        assert document["metadata"]["labels"]["helm.sh/chart"] == "coe-0.1.0_g1a2b3c"
        assert document["metadata"]["labels"]["app.kubernetes.io/version"] == "0.1.1.dev9_g1a2b3c"


@pytest.mark.parametrize(
    "wrong",
    [
        {"node.policy": "random"},
        {"kafka.bootstrap": "no-port"},
        {"kafka.sasl.mechanism": "GSSAPI"},
        {"nodes.replicas": "2"},
        {"tls.grpc": "maybe"},
        {"mapper.extraEnv[0].value": "without a name"},
        {"gateway.terminationGraceSeconds": "5"},
    ],
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
