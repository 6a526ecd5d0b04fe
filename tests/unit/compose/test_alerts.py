"""What pages whom: Prometheus' own promtool evaluates the rules over the metrics that an outage leaves behind.

`make deploy-tools` builds promtool.
"""

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from coe.platform import errors
from support.helm import CHART

RULES = CHART / "files" / "alerts.yaml"
SERVICES = ("gateway", "router", "mapper", "memory-tier-manager", "expert-worker")
GROUPS = {
    "coe-router": "coe.prompts.v1",
    "coe-mapper": "coe.routed.v1",
    "coe-expert-worker": "coe.assignments.v1",
}
ANSWERED = "gen_ai_server_request_duration_seconds_count"
FIRST_TOKEN = "gen_ai_server_time_to_first_token_seconds_bucket"
ENDED = 'messaging_client_sent_messages_total{messaging_destination_name="coe.completions.v1"}'
STEP_AGE = 'coe_step_age_seconds{coe_worker_id="a"}'
# Promtool's notation: from a start, by a step, so many times; an hour of minutes.
STEADY, NEVER = "0+60x60", "0x60"


def lag(group: str) -> str:
    return f'coe_consumer_lag{{messaging_consumer_group_name="{group}",messaging_destination_name="{GROUPS[group]}"}}'


def consumed(group: str, process: str = "a") -> str:
    return f'messaging_client_consumed_messages_total{{messaging_consumer_group_name="{group}",instance="{process}"}}'


def serving(service: str, process: str = "a") -> str:
    return f'coe_service_serving{{coe_service_name="{service}",instance="{process}"}}'


def failed(code: str) -> str:
    return f'coe_prompt_errors_total{{error_type="{code}"}}'


def tier(name: str, used: str, loaded: str) -> dict[str, str]:
    labels = f'{{coe_tier_name="{name}"}}'
    return {
        f"coe_tier_used_bytes{labels}": used,
        f"coe_tier_loaded_bytes{labels}": loaded,
        f"coe_tier_capacity_bytes{labels}": "100x60",
    }


def published(process: str) -> str:
    return f'coe_residency_published{{instance="{process}"}}'


# A prompt a second goes through, in two workers.
HEALTHY = {
    **{serving(service): "1x60" for service in SERVICES},
    serving("expert-worker", "b"): "1x60",
    **{consumed(group): STEADY for group in GROUPS},
    **{lag(group): "8x60" for group in GROUPS},
    "coe_router_decisions_total": STEADY,
    f'{ANSWERED}{{error_type=""}}': STEADY,
    ENDED: STEADY,
    f'{FIRST_TOKEN}{{le="20"}}': STEADY,
    f'{FIRST_TOKEN}{{le="40"}}': STEADY,
    f'{FIRST_TOKEN}{{le="+Inf"}}': STEADY,
    "coe_expert_eviction_count_total": "0+1x60",
    **tier("hbm", "50x60", STEADY),
    **tier("ddr", "50x60", "50x60"),
    **{published(process): "1x60" for process in "ab"},
}
# After a quarter of an hour nothing moves any more.
STOPPED = "0+60x15 900x45"
NO_EVICTIONS = {"coe_expert_eviction_count_total": NEVER}
GONE = "1x15 _x45"
GROWS = "8x15 8+60x45"
IDLE: Mapping[str, str] = {
    name: "900x60" for name in HEALTHY if name.startswith(("messaging", "coe_router", "gen_ai", "coe_expert"))
}

SCENARIOS: dict[str, tuple[Mapping[str, str | None], set[str]]] = {
    "healthy": ({}, set()),
    "idle, with marks of transactions left": (IDLE, set()),
    "nothing was ever asked": (dict.fromkeys(IDLE), set()),
    # Whoever stops a stream, or sends what can't be served, pages nobody.
    "clients press stop": (
        {failed("cancelled"): "0+30x60", f'{ANSWERED}{{error_type="cancelled"}}': "0+30x60"},
        set(),
    ),
    "clients send too much": ({failed("context_exceeded"): "0+30x60", failed("invalid_prompt"): "0+30x60"}, set()),
    "one in a hundred fails": ({failed("tier_load"): "0+0.6x60"}, set()),
    "one in twenty fails in a worker": ({failed("tier_load"): "0+3x60"}, {"PromptErrors"}),
    # Router and mapper end these: the worker hears nothing of them.
    "the mapper finds no expert": ({failed("expert_not_found"): "0+3x60"}, {"PromptErrors"}),
    "everything fails before a worker": (
        {
            failed("expert_not_found"): STEADY,
            f'{ANSWERED}{{error_type=""}}': None,
            consumed("coe-expert-worker"): None,
            lag("coe-expert-worker"): "0x60",
        },
        {"PromptErrors"},
    ),
    "clients' errors hide no others": (
        {failed("cancelled"): "0+6000x60", failed("internal"): "0+3x60"},
        {"PromptErrors"},
    ),
    # Producers of their own: nobody counts what they send.
    "the only router is gone": (
        {
            **NO_EVICTIONS,
            serving("router"): GONE,
            consumed("coe-router"): "0+60x15 _x45",
            lag("coe-router"): "8x15 _x45",
            "coe_router_decisions_total": "0+60x15 _x45",
            ENDED: STOPPED,
            consumed("coe-mapper"): STOPPED,
            consumed("coe-expert-worker"): STOPPED,
            f'{ANSWERED}{{error_type=""}}': STOPPED,
        },
        {"MetricsMissing"},
    ),
    "a router that is let read nothing": (
        {
            consumed("coe-router"): STOPPED,
            lag("coe-router"): GROWS,
            "coe_router_decisions_total": STOPPED,
            ENDED: STOPPED,
            consumed("coe-mapper"): STOPPED,
            consumed("coe-expert-worker"): STOPPED,
        },
        {"ConsumerGroupStalled"},
    ),
    "a group that never read anything": (
        {consumed("coe-mapper"): None, lag("coe-mapper"): GROWS, ENDED: None},
        {"ConsumerGroupStalled", "NothingAnswered"},
    ),
    "workers took prompts and end none": (
        {
            **NO_EVICTIONS,
            ENDED: STOPPED,
            f'{ANSWERED}{{error_type=""}}': STOPPED,
            consumed("coe-expert-worker"): STOPPED,
            lag("coe-expert-worker"): GROWS,
        },
        {"NothingAnswered", "ConsumerGroupStalled"},
    ),
    # The gateway takes nothing then, so nothing is sent, consumed or ended.
    "the broker is away": (
        {**IDLE, **{serving(service): "1x15 0x45" for service in SERVICES}, serving("expert-worker", "b"): "1x15 0x45"},
        {"NotServing"},
    ),
    "one of two workers does not serve": ({serving("expert-worker", "b"): "1x15 0x45"}, set()),
    "both workers are gone": (
        {serving("expert-worker"): GONE, serving("expert-worker", "b"): GONE},
        {"MetricsMissing"},
    ),
    "no gateway": ({serving("gateway"): GONE}, {"MetricsMissing"}),
    "first tokens are late": ({f'{FIRST_TOKEN}{{le="20"}}': "0+30x60"}, {"SlowFirstToken"}),
    "experts come and go": ({"coe_expert_eviction_count_total": "0+50x60"}, {"ExpertThrashing"}),
    "a step does not end": ({STEP_AGE: "0x30 60+60x5 300x25"}, {"StepHangs"}),
    "a step waits for weights": ({STEP_AGE: "0x40 60 60 0x20"}, set()),
    "one of two nodes does not reach Redis": ({published("b"): "1x15 0x45"}, {"RedisUnreachable"}),
    "Redis is started anew": ({published("a"): "1x30 0x2 1x28", published("b"): "1x30 0x2 1x28"}, set()),
    "HBM is full": (tier("hbm", "100x60", STEADY), set()),
    "DDR holds all, with nothing left over": (tier("ddr", "100x60", "100x60"), set()),
    "DDR fills after the start": (tier("ddr", "0+2x45 90x15", "0+2x45 90x15"), set()),
    "a manager that starts again fills DDR anew": (tier("ddr", "95x20 0+2x40", "9000x20 0+2x40"), set()),
    # Experts of 65: the second one drives the first one out, and the tier never looks full.
    "experts take turns in DDR": (tier("ddr", "65x60", "65+13x60"), {"TierFull"}),
}


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_reads_the_rules(promtool: str) -> None:
    run([promtool, "check", "rules", "--lint-fatal", str(RULES)])


@pytest.mark.parametrize(("changes", "expected"), SCENARIOS.values(), ids=SCENARIOS.keys())
def test_who_is_paged(promtool: str, tmp_path: Path, changes: Mapping[str, str | None], expected: set[str]) -> None:
    series = {name: values for name, values in {**HEALTHY, **changes}.items() if values is not None}
    firing = 'group by (alertname) (ALERTS{alertstate="firing"})'
    test = {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": firing,
                "eval_time": "50m",
                "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in sorted(expected)],
            }
        ],
    }
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [test]}))
    run([promtool, "test", "rules", str(file)])


def test_every_alert_is_seen_to_fire() -> None:
    names = {rule["alert"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
    assert set().union(*(expected for _, expected in SCENARIOS.values())) == names


def test_errors_of_clients_are_left_out_and_no_others() -> None:
    rules = {rule["alert"]: rule["expr"] for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]}
    found = re.findall(r'coe_prompt_errors_total\{error_type!~"([^"]*)"\}', rules["PromptErrors"])
    of_clients = {kind.code for kind in errors.walk(errors.CoEError) if kind.of_client}
    assert [set(codes.split("|")) for codes in found] == [of_clients] * 2


def test_every_service_is_missed() -> None:
    expr = next(
        rule["expr"]
        for rule in yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
        if rule["alert"] == "MetricsMissing"
    )
    assert set(re.findall(r'coe_service_name="([^"]*)"', expr)) == set(SERVICES)
