"""Prometheus' own promtool evaluates what the dashboards show."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.helm import CHART

PANELS = [
    panel
    for path in sorted((CHART / "files" / "dashboards").glob("*.json"))
    for panel in json.loads(path.read_text())["panels"]
]


def expression(panel: dict[str, Any]) -> str:
    """With all namespaces, as it is at first."""
    return panel["targets"][0]["expr"].replace("$__rate_interval", "5m").replace("$namespace", ".*")


def test_panels_show_what_is_chosen_above_them() -> None:
    """Of the namespaces, from the Prometheus: a Grafana may know several of each."""
    for panel in PANELS:
        (target,) = panel["targets"]
        assert target["datasource"]["uid"] == panel["datasource"]["uid"] == "${datasource}"
        metrics = re.findall(r"\b(?:coe|gen_ai|http|rpc)_[a-z_]+(?=[{\[])", target["expr"])
        assert metrics
        assert target["expr"].count('namespace=~"$namespace"') == len(metrics), panel["title"]


def test_every_expression_is_one(promtool: str, tmp_path: Path) -> None:
    rules = [{"record": f"panel:{n}", "expr": expression(panel)} for n, panel in enumerate(PANELS)]
    assert rules
    (file := tmp_path / "rules.yaml").write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("hits", "misses", "share"), [("0+9x9", None, 1), (None, "0+9x9", 0), ("0+9x9", "0+9x9", 0.5)])
def test_the_share_found_in_hbm(
    promtool: str, tmp_path: Path, hits: str | None, misses: str | None, share: float
) -> None:
    """A counter is not there before it first counts."""
    counted = {"coe_cache_hit_total": hits, "coe_cache_miss_total": misses}
    expr = next(expression(panel) for panel in PANELS if panel["title"] == "HBM hit rate")
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in counted.items() if values],
        "promql_expr_test": [{"expr": expr, "eval_time": "9m", "exp_samples": [{"labels": "{}", "value": share}]}],
    }
    (file := tmp_path / "test.yaml").write_text(yaml.safe_dump({"evaluation_interval": "1m", "tests": [test]}))
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
