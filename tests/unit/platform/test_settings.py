"""Settings that can't be used end a process with one line that names them."""

import pytest

from coe.expert_worker.settings import WorkerSettings
from coe.gateway.settings import GatewaySettings
from coe.local.options import StackOptions
from coe.mapper.settings import MapperSettings
from coe.memory_tier_manager.settings import TiersSettings
from coe.platform.settings import CoreSettings, GrpcSettings, Settings
from coe.platform.tls import TlsSettings
from coe.router.settings import RouterSettings


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *((CoreSettings, "COE_KAFKA_BOOTSTRAP", value) for value in ("", "host", "host:port", "h:99999", "h:1,,")),
        *((CoreSettings, "COE_REDIS_URL", value) for value in ("", "h:1", "http://h", "redis://h:port/0")),
        *((CoreSettings, "COE_REDIS_URL", value) for value in ("redis+cluster://a:1,b:", "redis+sentinel://a:1")),
        (CoreSettings, "COE_KAFKA_SECURITY", "TLS"),
        (CoreSettings, "COE_LOG_LEVEL", "LOUD"),
        (CoreSettings, "COE_METRICS_PORT", "65536"),
        (CoreSettings, "COE_TRACES_PER_S", "0"),
        (GrpcSettings, "COE_GRPC_PORT", "-1"),
        (GatewaySettings, "COE_GATEWAY_DEFAULT_DEADLINE_S", "inf"),
        (StackOptions, "COE_STACK_WORKERS", "none"),
        (RouterSettings, "COE_ROUTER_CANARY_SHARE", "2"),
        (MapperSettings, "COE_MAPPER_RELOAD_S", "0"),
        (WorkerSettings, "COE_WORKER_POLICY", "best"),
        (TiersSettings, "COE_TIERS_HBM_BYTES", "8G"),
    ],
)
def test_one_line_names_the_setting(
    monkeypatch: pytest.MonkeyPatch, kind: type[Settings], name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit, match=rf"^coe: {name}: [^\n]+$"):
        kind()


def test_a_list_that_is_no_json_is_one_line_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_MAPPER_EXPERTS", "a,b")
    with pytest.raises(SystemExit, match=r"^coe: COE_MAPPER_EXPERTS: a JSON list is wanted[^\n]+$"):
        MapperSettings()


@pytest.mark.parametrize(("name", "kind"), [("COE_HOME", CoreSettings), ("COE_TIERS_EVENT_LOG", TiersSettings)])
def test_an_empty_path_is_not_the_folder_that_one_happens_to_be_in(
    monkeypatch: pytest.MonkeyPatch, name: str, kind: type[Settings]
) -> None:
    usual = kind()
    monkeypatch.setenv(name, "")
    assert kind() == usual


def test_a_password_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_REDIS_URL", "redis://:hunter2@host:port/0")
    with pytest.raises(SystemExit) as ended:
        CoreSettings()
    assert "hunter2" not in str(ended.value)


@pytest.mark.parametrize(
    "url",
    ["redis://h:1/0", "rediss://u:p@h/0", "redis+cluster://a:1,b:2", "redis+sentinel://a,b:2/name"],
)
def test_every_kind_of_redis_is_taken(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("COE_REDIS_URL", url)
    assert CoreSettings().redis_url == url


@pytest.mark.parametrize("name", ["CA", "CERT", "KEY"])
def test_a_certificate_that_is_empty_is_not_set(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """As where a deployment has none to put in."""
    monkeypatch.setenv(f"COE_TLS_{name}", "")
    TlsSettings().check()


def test_levels_are_taken_in_either_case(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COE_LOG_LEVEL", "warning")
    assert CoreSettings().log_level == "WARNING"
