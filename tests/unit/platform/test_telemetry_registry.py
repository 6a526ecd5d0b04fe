"""The registry of metrics, the page made from it, and the code that uses it agree."""

import re
from pathlib import Path

import pytest

from coe.platform.telemetry import registry
from coe.platform.telemetry.docs import markdown
from coe.platform.telemetry.sampling import RateLimited

ROOT = Path(__file__).parents[3]
SOURCES = "\n".join(
    path.read_text() for path in (ROOT / "services" / "coe").rglob("*.py") if path.name != "registry.py"
)


def test_the_page_is_current() -> None:
    assert (ROOT / "docs" / "telemetry.md").read_text() == markdown()


@pytest.mark.parametrize("metric", registry.METRICS, ids=lambda metric: metric.name)
def test_every_metric_is_recorded_somewhere(metric: registry.Metric) -> None:
    assert re.search(rf'{metric.kind}\(\s*"{re.escape(metric.name)}"', SOURCES)


def test_no_instrument_is_made_past_the_registry() -> None:
    assert not re.search(r"\.create_(counter|histogram|gauge|up_down_counter|observable)", SOURCES)


def test_names_are_unique_and_histograms_have_buckets() -> None:
    assert len(registry.BY_NAME) == len(registry.METRICS)
    assert all(bool(metric.buckets) == (metric.kind == "histogram") for metric in registry.METRICS)


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(KeyError):
        registry.counter("coe.unheard.of")
    with pytest.raises(KeyError):
        registry.counter("coe.tier.used")


def test_no_more_traces_a_second_than_agreed() -> None:
    now = [0.0]
    sampler = RateLimited(2, clock=lambda: now[0])

    def sampled(count: int) -> int:
        return sum(sampler.take() for _ in range(count))

    assert sampled(10) == 2
    now[0] = 0.5
    assert sampled(10) == 1
    now[0] = 100
    assert sampled(10) == 2


SUFFIX = re.compile(r"(_seconds|_bytes|_ratio)?(_bucket|_sum|_count|_total)?$")


def test_dashboards_and_alerts_ask_for_what_exists() -> None:
    folders = (ROOT / "compose", ROOT / "deploy" / "helm" / "coe" / "files")
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in {".json", ".yaml", ".yml"}]
    assert {"alerts.yaml", "overview.json"} <= {path.name for path in files}
    pages = [path.read_text() for path in files]
    asked = set(re.findall(r"\b(?:coe|gen_ai|messaging|rpc)_[a-z_]+", "\n".join(pages)))
    names = {metric.name for metric in registry.METRICS} | {name for one in registry.METRICS for name in one.attributes}
    known = {name.replace(".", "_") for name in names}
    assert {name for name in asked if name not in known and SUFFIX.sub("", name) not in known} == set()
