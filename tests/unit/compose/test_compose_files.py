"""Compose, observability and dashboards agree with each other and with the code."""

import json
import re
import sys
import tomllib
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml

from coe.local.packaged import EXPERT_ID
from coe.platform.telemetry.registry import METRICS

ROOT = Path(__file__).resolve().parents[3]
COMPOSE = ROOT / "compose"
CHART_FILES = ROOT / "deploy" / "helm" / "coe" / "files"
FILES = sorted(COMPOSE.glob("compose*.yaml"))
SERVICES = {"router", "mapper", "memory-tier-manager", "expert-worker-0", "expert-worker-1", "gateway"}
_SUFFIX = {"s": "_seconds", "By": "_bytes"}


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text())


def environment() -> dict[str, str]:
    lines = (COMPOSE / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))


def dashboards() -> ModuleType:
    spec = spec_from_file_location("dashboards", COMPOSE / "observability" / "dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def exported() -> set[str]:
    """The names that Prometheus sees of our metrics."""
    found = set()
    for metric in METRICS:
        name = metric.name.replace(".", "_") + _SUFFIX.get(metric.unit, "")
        suffixes = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}[metric.kind]
        found |= {name + suffix for suffix in suffixes}
    return found


def used(expr: str) -> set[str]:
    return set(re.findall(r"\b(?:coe|gen_ai)_[a-z_]+(?=[\[{)\s]|$)", expr)) - set(
        re.findall(r"by \(([^)]*)\)", expr)[0].replace(" ", "").split(",") if " by (" in expr else ()
    )


def test_every_variable_has_a_value() -> None:
    known = environment().keys()
    for path in FILES:
        missing = set(re.findall(r"\$\{(\w+)\}", path.read_text())) - known
        assert not missing, f"{path.name} uses {missing}, which .env does not set"


def test_no_image_or_version_is_named_outside_env() -> None:
    images = [service.get("image", "$") for path in FILES for service in read(path).get("services", {}).values()]
    assert all(image.startswith("$") for image in images)


def test_one_version_everywhere() -> None:
    """The newest that the changelog names, or the coming one before the first release: files can't ask for tags."""
    released = re.search(r"^## \[?(\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools_scm"]["fallback_version"]
    version = released[1] if released else project
    env = environment()
    chart = read(ROOT / "deploy" / "helm" / "coe" / "Chart.yaml")
    assert [project, env["COE_VERSION"], chart["version"], chart["appVersion"]] == [version] * 4


def test_services_run_unprivileged() -> None:
    services = read(COMPOSE / "compose.yaml")["services"]
    assert services.keys() >= SERVICES
    for name in SERVICES:
        assert services[name]["read_only"] is True
        assert services[name]["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("overlay", ["hostnet", "chaos", "observability", "sasl"])
def test_overlays_cover_every_service(overlay: str) -> None:
    assert read(COMPOSE / f"compose.{overlay}.yaml")["services"].keys() >= SERVICES


def test_prometheus_and_grafana_read_the_files_of_the_chart() -> None:
    services = read(COMPOSE / "compose.observability.yaml")["services"]
    mounted = [volume.split(":")[0] for name in ("prometheus", "grafana") for volume in services[name]["volumes"]]
    sources = {(COMPOSE / source).resolve() for source in mounted if "/" in source}
    assert {CHART_FILES / "alerts.yaml", CHART_FILES / "dashboards"} <= sources
    assert all(source.exists() for source in sources)


def test_dashboards_are_current_and_show_metrics_that_exist() -> None:
    module = dashboards()
    for path, text in module.files().items():
        assert path.read_text() == text, f"{path.name}: run compose/observability/dashboards.py"
    expressions = [panel.expr for panels in module.DASHBOARDS.values() for panel in panels]
    assert set().union(*map(used, expressions)) - exported() == set()


def test_alerts_watch_metrics_that_exist_and_have_a_runbook() -> None:
    rules = read(CHART_FILES / "alerts.yaml")["groups"][0]["rules"]
    runbook = (ROOT / "docs" / "operations" / "runbook.md").read_text()
    for rule in rules:
        assert used(rule["expr"]) - exported() == set(), rule["alert"]
        assert f"## {rule['alert']}\n" in runbook
        assert rule["annotations"]["runbook"].endswith("#" + rule["alert"].lower())


def test_what_the_runbook_names_is_on_a_dashboard() -> None:
    """Whoever reads it at night has nothing else to look at."""
    runbook = (ROOT / "docs" / "operations" / "runbook.md").read_text()
    shown = " ".join(panel.expr for panels in dashboards().DASHBOARDS.values() for panel in panels)
    named = [metric.name for metric in METRICS if f"`{metric.name}`" in runbook]
    assert named
    assert [name for name in named if name.replace(".", "_") not in shown] == []


def test_our_images_are_nobody_elses() -> None:
    """Compose v2 would ask Docker Hub for each name that is not built yet, and run what it has."""
    for path in FILES:
        for name, service in read(path).get("services", {}).items():
            if service.get("image", "").startswith("${COE_IMAGE_PREFIX}"):
                assert service["pull_policy"] == "${PULL_POLICY}", f"{path.name}: {name}"


def test_logs_are_bounded() -> None:
    for path in FILES:
        for name, service in read(path).get("services", {}).items():
            # Runs that end leave none behind.
            if "image" in service and name != "load":
                assert service["logging"]["options"].keys() == {"max-size", "max-file"}, f"{path.name}: {name}"


def test_the_load_overlay_hosts_echo_and_every_packaged_expert() -> None:
    hosted = json.loads(read(COMPOSE / "compose.load.yaml")["services"]["mapper"]["environment"]["COE_MAPPER_EXPERTS"])
    replicas = int(environment()["EXPERT_REPLICAS"])
    copies = [f"{EXPERT_ID}@replica-{number}" for number in range(1, replicas)]
    assert hosted == ["echo", EXPERT_ID, *copies]


def test_metrics_are_sent_as_often_as_they_are_scraped() -> None:
    scraped = read(COMPOSE / "observability" / "prometheus.yaml")["global"]["scrape_interval"]
    services = read(COMPOSE / "compose.observability.yaml")["services"]
    for name in SERVICES:
        assert f"{int(services[name]['environment']['OTEL_METRIC_EXPORT_INTERVAL']) // 1000}s" == scraped
