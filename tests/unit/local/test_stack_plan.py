"""Which services a stack has, in which order, and what each is told."""

from itertools import count
from pathlib import Path

from coe.local.options import StackOptions
from coe.local.plan import Plan, Servers, arena_name, plan

SERVERS = Servers("127.0.0.1:9092", "redis://127.0.0.1:6379/0")


def make(options: StackOptions, home: Path) -> Plan:
    numbers = count(20000)
    return plan(options, home, SERVERS, 1000, lambda preferred: preferred or next(numbers))


def test_workers_start_after_the_tiers_and_the_gateway_last(tmp_path: Path) -> None:
    stages = [[spec.name for spec in stage] for stage in make(StackOptions(workers=2), tmp_path).stages]
    assert stages == [
        ["memory-tier-manager", "router", "mapper"],
        ["expert-worker-0", "expert-worker-1"],
        ["gateway"],
    ]


def test_every_service_gets_the_servers_and_a_port_of_its_own(tmp_path: Path) -> None:
    services = make(StackOptions(workers=3), tmp_path).services
    assert len({spec.port for spec in services}) == len(services)
    for spec in services:
        assert spec.env["COE_KAFKA_BOOTSTRAP"] == SERVERS.kafka_bootstrap
        assert spec.env["COE_REDIS_URL"] == SERVERS.redis_url
        assert spec.env["COE_HOME"] == str(tmp_path)


def test_workers_find_the_tier_manager(tmp_path: Path) -> None:
    by_name = {spec.name: spec for spec in make(StackOptions(), tmp_path).services}
    tiers, worker = by_name["memory-tier-manager"], by_name["expert-worker-0"]
    assert worker.env["COE_WORKER_TIER_MANAGER"] == tiers.address
    assert tiers.env["COE_TIERS_HBM_BYTES"] == "1000"
    assert "COE_TIERS_DDR_BYTES" not in tiers.env


def test_ports_of_metrics_count_in_the_order_of_the_start(tmp_path: Path) -> None:
    made = plan(StackOptions(workers=2), tmp_path, SERVERS, 1000, lambda preferred: preferred or 20000, 9464)
    ports = [spec.env["COE_METRICS_PORT"] for spec in made.services]
    assert ports == ["9464", "9465", "9466", "9467", "9468", "9469"]
    assert {spec.env["COE_METRICS_PORT"] for spec in make(StackOptions(), tmp_path).services} == {"0"}


def test_the_http_api_can_be_left_out(tmp_path: Path) -> None:
    made = make(StackOptions(gateway_http_port=0), tmp_path)
    assert made.gateway_http == ""
    assert made.services[-1].env["COE_GATEWAY_HTTP_PORT"] == "0"


def test_the_arena_belongs_to_the_home(tmp_path: Path) -> None:
    assert arena_name(tmp_path / "a") == arena_name(tmp_path / "b" / ".." / "a")
    assert arena_name(tmp_path / "a") != arena_name(tmp_path / "b")
