"""Writes the Grafana dashboards from the short list below: `python compose/observability/dashboards.py`."""

import json
from dataclasses import dataclass
from pathlib import Path

# The chart's: Helm packages nothing that lies outside of it, and compose can read anywhere.
FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "coe" / "files" / "dashboards"
_WIDTH, _HEIGHT, _COLUMNS = 8, 8, 3


@dataclass(frozen=True)
class Panel:
    """A time series. `unit` is Grafana's name of it."""

    title: str
    expr: str
    legend: str
    unit: str = "short"


def quantiles(metric: str, by: str = "") -> str:
    """The 95th percentile of a histogram in seconds, by a label."""
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile(0.95, sum by ({labels}) (rate({metric}_seconds_bucket[$__rate_interval])))"


def rate(metric: str, by: str = "") -> str:
    return f"sum by ({by}) (rate({metric}[$__rate_interval]))" if by else f"sum(rate({metric}[$__rate_interval]))"


# A counter is not there before it first counts.
_HITS, _MISSES = (f"({rate(f'coe_cache_{what}_total')} or vector(0))" for what in ("hit", "miss"))
_FAILED = '{}_duration_seconds_count{{error_type!=""}}'
_INPUT = 'gen_ai_client_token_usage_sum{gen_ai_token_type="input"}'
_EXPERT = "gen_ai_request_model"
DASHBOARDS = {
    "Overview": [
        Panel(
            "Prompts ended",
            rate("gen_ai_server_request_duration_seconds_count", "error_type"),
            "{{error_type}}",
            "reqps",
        ),
        Panel("First token, 95 %", quantiles("gen_ai_server_time_to_first_token"), "p95", "s"),
        Panel("Time a token, 95 %", quantiles("gen_ai_server_time_per_output_token"), "p95", "s"),
        Panel("Whole answer, 95 %", quantiles("gen_ai_server_request_duration"), "p95", "s"),
        Panel("Queue wait, 95 %", quantiles("coe_queue_wait_duration"), "p95", "s"),
        Panel("Serving", "max by (coe_service_name) (coe_service_serving)", "{{coe_service_name}}"),
        Panel(
            "Left to read",
            "max by (messaging_consumer_group_name) (coe_consumer_lag)",
            "{{messaging_consumer_group_name}}",
        ),
        Panel("Tokens", rate("gen_ai_client_token_usage_sum", "gen_ai_token_type"), "{{gen_ai_token_type}}", "short"),
        Panel("Step under way", "max by (coe_worker_id) (coe_step_age_seconds)", "{{coe_worker_id}}", "s"),
    ],
    "Tiers": [
        Panel("Used", "coe_tier_used_bytes", "{{coe_tier_name}}", "bytes"),
        Panel("Budget", "coe_tier_capacity_bytes", "{{coe_tier_name}}", "bytes"),
        Panel("Found in HBM", f"{_HITS} / ({_HITS} + {_MISSES})", "share", "percentunit"),
        Panel("Load into HBM, 95 %", quantiles("coe_expert_load_duration"), "p95", "s"),
        Panel("Wait for room, 95 %", quantiles("coe_expert_load_queue_duration"), "p95", "s"),
        Panel("Evictions", rate("coe_expert_eviction_count_total", "reason"), "{{reason}}", "ops"),
        Panel("Age at eviction, 95 %", quantiles("coe_expert_age_at_eviction"), "p95", "s"),
        Panel("Switches", rate("coe_expert_switch_count_total"), "switches", "ops"),
        Panel("Leases that wait", "sum(coe_lease_waiting)", "leases"),
        Panel("Disks that do not answer", "sum(coe_tier_disk_waits)", "copies and reads"),
    ],
    "Routing": [
        Panel(
            "Categories", rate("coe_router_decisions_total", "coe_router_category"), "{{coe_router_category}}", "reqps"
        ),
        Panel(
            "Fallbacks", rate("coe_router_decisions_total", "coe_router_fallback"), "{{coe_router_fallback}}", "reqps"
        ),
        Panel("Routing, 95 %", quantiles("coe_router_duration"), "p95", "s"),
        Panel("Experts chosen", rate("coe_mapper_decisions_total", "coe_expert_id"), "{{coe_expert_id}}", "reqps"),
        Panel("Errors", rate("coe_prompt_errors_total", "error_type"), "{{error_type}}", "reqps"),
        Panel("Dead letters", rate("coe_dead_letters_total", "error_type"), "{{error_type}}", "reqps"),
        Panel("Errors over HTTP", rate(_FAILED.format("http_server_request"), "error_type"), "{{error_type}}", "reqps"),
        Panel("Errors over gRPC", rate(_FAILED.format("rpc_server_call"), "error_type"), "{{error_type}}", "reqps"),
    ],
    "Experts": [
        Panel("Prompts", rate("gen_ai_server_request_duration_seconds_count", _EXPERT), f"{{{{{_EXPERT}}}}}", "reqps"),
        Panel("First token, 95 %", quantiles("gen_ai_server_time_to_first_token", _EXPERT), f"{{{{{_EXPERT}}}}}", "s"),
        Panel(
            "Wait for weights, 95 %",
            quantiles("coe_expert_load_wait_duration", "coe_expert_id"),
            "{{coe_expert_id}}",
            "s",
        ),
        Panel("Not in HBM", rate("coe_cache_miss_total", "coe_expert_id"), "{{coe_expert_id}}", "ops"),
        Panel(
            "Of prompts, computed before",
            f"{rate('coe_tokens_cached_total')} / {rate(_INPUT)}",
            "share of tokens",
            "percentunit",
        ),
        Panel(
            "Guesses that came",
            f"{rate('coe_tokens_guessed_right_total')} / {rate('coe_tokens_guessed_total')}",
            "share of guesses",
            "percentunit",
        ),
        Panel("Held by a worker", "sum by (coe_worker_id) (coe_queue_depth)", "{{coe_worker_id}}"),
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
        "panels": [_panel(number, panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, object]:
    row, column = divmod(number, _COLUMNS)
    source = {"type": "prometheus", "uid": "prometheus"}
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": panel.title,
        "datasource": source,
        "gridPos": {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [{"refId": "A", "datasource": source, "expr": panel.expr, "legendFormat": panel.legend}],
    }


def files() -> dict[Path, str]:
    return {
        FOLDER / f"{title.lower()}.json": json.dumps(dashboard(title, panels), indent=1) + "\n"
        for title, panels in DASHBOARDS.items()
    }


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
