"""Generate the Grafana dashboards from the list below: `python compose/observability/dashboards.py`."""

import json
from dataclasses import dataclass
from pathlib import Path

# In the chart, because Helm packages only files inside it, while Compose can read from anywhere.
FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "coe" / "files" / "dashboards"
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3
# Selected by a dashboard variable, because data source names differ between Grafana instances.
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_VARIABLES = [
    {"name": "datasource", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
    {
        "name": "namespace",
        "label": "Namespace",
        "type": "query",
        "datasource": _SOURCE,
        "query": "label_values(coe_service_serving, namespace)",
        # Refresh when the time range changes.
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    },
]


@dataclass(frozen=True)
class Panel:
    """A time series. `unit` is a Grafana unit name."""

    title: str
    expr: str
    legend: str
    unit: str = "short"


def of(metric: str, *where: str) -> str:
    """The metric in the selected namespaces. Outside Kubernetes the label is missing, which `.*` matches too."""
    matchers = ", ".join(('namespace=~"$namespace"', *where))
    return f"{metric}{{{matchers}}}"


def quantiles(metric: str, by: str = "") -> str:
    """The 95th percentile of a histogram in seconds, by a label."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile(0.95, sum by ({labels}) (rate({of(f'{metric}_seconds_bucket')}[$__rate_interval])))"


def rate(metric: str, by: str = "", *where: str) -> str:
    each = f"(rate({of(metric, *where)}[$__rate_interval]))"
    return f"sum by ({by}) {each}" if by else f"sum{each}"


# A counter does not exist before its first increment.
_HITS, _MISSES = (f"({rate(f'coe_cache_{what}_total')} or vector(0))" for what in ("hit", "miss"))
_INPUT = rate("gen_ai_client_token_usage_sum", "", 'gen_ai_token_type="input"')
_FAILED = ("error_type", 'error_type!=""')
_EXPERT = "gen_ai_request_model"
# One series per node: identified by its pod when scraped in Kubernetes, by its process through a collector.
_TIER = "{{coe_tier_name}} {{pod}}{{service_instance_id}}"
DASHBOARDS = {
    "Overview": [
        Panel(
            "Prompts finished",
            rate("gen_ai_server_request_duration_seconds_count", "error_type"),
            "{{error_type}}",
            "reqps",
        ),
        Panel("First token, 95 %", quantiles("gen_ai_server_time_to_first_token"), "p95", "s"),
        Panel("Time per token, 95 %", quantiles("gen_ai_server_time_per_output_token"), "p95", "s"),
        Panel("Full answer, 95 %", quantiles("gen_ai_server_request_duration"), "p95", "s"),
        Panel("Queue wait, 95 %", quantiles("coe_queue_wait_duration"), "p95", "s"),
        Panel("Serving", f"max by (coe_service_name) ({of('coe_service_serving')})", "{{coe_service_name}}"),
        Panel(
            "Consumer lag",
            f"max by (messaging_consumer_group_name) ({of('coe_consumer_lag')})",
            "{{messaging_consumer_group_name}}",
        ),
        Panel("Tokens", rate("gen_ai_client_token_usage_sum", "gen_ai_token_type"), "{{gen_ai_token_type}}", "short"),
        Panel("Step age", f"max by (coe_worker_id) ({of('coe_step_age_seconds')})", "{{coe_worker_id}}", "s"),
    ],
    "Tiers": [
        Panel("Used", of("coe_tier_used_bytes"), _TIER, "bytes"),
        Panel("Capacity", of("coe_tier_capacity_bytes"), _TIER, "bytes"),
        Panel("HBM hit rate", f"{_HITS} / ({_HITS} + {_MISSES})", "share", "percentunit"),
        Panel("Load into HBM, p95", quantiles("coe_expert_load_duration"), "p95", "s"),
        Panel("Wait for room, p95", quantiles("coe_expert_load_queue_duration"), "p95", "s"),
        Panel("Evictions", rate("coe_expert_eviction_count_total", "reason"), "{{reason}}", "ops"),
        Panel("Age at eviction, p95", quantiles("coe_expert_age_at_eviction"), "p95", "s"),
        Panel("Switches", rate("coe_expert_switch_count_total"), "switches", "ops"),
        Panel("Waiting leases", f"sum({of('coe_lease_waiting')})", "leases"),
        Panel("Unresponsive disks", f"sum({of('coe_tier_disk_waits')})", "copies and reads"),
    ],
    "Routing": [
        Panel(
            "Categories", rate("coe_router_decisions_total", "coe_router_category"), "{{coe_router_category}}", "reqps"
        ),
        Panel(
            "Fallbacks", rate("coe_router_decisions_total", "coe_router_fallback"), "{{coe_router_fallback}}", "reqps"
        ),
        Panel("Routing, p95", quantiles("coe_router_duration"), "p95", "s"),
        Panel("Experts chosen", rate("coe_mapper_decisions_total", "coe_expert_id"), "{{coe_expert_id}}", "reqps"),
        Panel("Errors", rate("coe_prompt_errors_total", "error_type"), "{{error_type}}", "reqps"),
        Panel("Dead letters", rate("coe_dead_letters_total", "error_type"), "{{error_type}}", "reqps"),
        Panel(
            "Errors over HTTP", rate("http_server_request_duration_seconds_count", *_FAILED), "{{error_type}}", "reqps"
        ),
        Panel("Errors over gRPC", rate("rpc_server_call_duration_seconds_count", *_FAILED), "{{error_type}}", "reqps"),
    ],
    "Experts": [
        Panel("Prompts", rate("gen_ai_server_request_duration_seconds_count", _EXPERT), f"{{{{{_EXPERT}}}}}", "reqps"),
        Panel(
            "Time to first token, p95",
            quantiles("gen_ai_server_time_to_first_token", _EXPERT),
            f"{{{{{_EXPERT}}}}}",
            "s",
        ),
        Panel(
            "Wait for weights, p95",
            quantiles("coe_expert_load_wait_duration", "coe_expert_id"),
            "{{coe_expert_id}}",
            "s",
        ),
        Panel("HBM misses", rate("coe_cache_miss_total", "coe_expert_id"), "{{coe_expert_id}}", "ops"),
        Panel(
            "Prompt tokens from cache",
            f"{rate('coe_tokens_cached_total')} / {_INPUT}",
            "share of tokens",
            "percentunit",
        ),
        Panel(
            "Correct guesses",
            f"{rate('coe_tokens_guessed_right_total')} / {rate('coe_tokens_guessed_total')}",
            "share of guesses",
            "percentunit",
        ),
        Panel("Held by worker", f"sum by (coe_worker_id) ({of('coe_queue_depth')})", "{{coe_worker_id}}"),
    ],
}


def dashboard(title: str, panels: list[Panel]) -> dict[str, object]:
    return {
        "uid": f"coe-{title.lower()}",
        "title": f"CoE: {title}",
        "tags": ["coe"],
        "schemaVersion": 41,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "templating": {"list": _VARIABLES},
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, object]:
    row, column = divmod(number, _COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": _SOURCE,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [{"refId": "A", "datasource": _SOURCE, "expr": panel.expr, "legendFormat": panel.legend}],
    }


def files() -> dict[Path, str]:
    return {
        FOLDER / f"{title.lower()}.json": json.dumps(dashboard(title, panels), indent=1) + "\n"
        for title, panels in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
