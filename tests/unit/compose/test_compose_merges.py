"""Every overlay merges with the base file as both Compose implementations read it: docker-compose 1.29, and Compose v2.

v2 is asked by its own parser (compose-go), which `make deploy-tools` builds.
"""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from string import Template
from typing import Any

import pytest
import yaml

COMPOSE = Path(__file__).resolve().parents[3] / "compose"
OVERLAYS = {
    "default": ["override"],
    "observability": ["override", "observability"],
    "load": ["override", "load"],
    "chaos": ["override", "load", "chaos"],
    "tls": ["override", "tls"],
    "sasl": ["override", "load", "sasl", "load.sasl"],
    "hostnet": ["hostnet", "load", "load.hostnet", "chaos"],
    "hostnet with tls": ["hostnet", "load", "load.hostnet", "tls", "tls.hostnet", "load.tls"],
    "everything": ["override", "observability", "load", "chaos", "tls", "load.tls"],
}
Merge = Callable[[list[str], Path], dict[str, Any]]


def _run(command: list[str], folder: Path = COMPOSE) -> dict[str, Any]:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return yaml.safe_load(done.stdout)


def _version_1(files: list[str], folder: Path) -> dict[str, Any]:
    if shutil.which("docker-compose") is None:
        pytest.skip("docker-compose is not installed; `make compose-test` installs it")
    return _run(["docker-compose", "--profile", "load", *(part for file in files for part in ("-f", file)), "config"])


def _version_2(files: list[str], folder: Path) -> dict[str, Any]:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    parser = shutil.which("compose-spec", path=str(cache / "coe" / "tools"))
    if parser is None:
        pytest.skip("the parser of Compose v2 is not there; `make deploy-tools` builds it (it needs Go)")
    # The parser alone has no variables: `docker compose` takes them from .env.
    lines = (COMPOSE / ".env").read_text().splitlines()
    variables = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
    for file in files:
        (folder / file).write_text(Template((COMPOSE / file).read_text()).substitute(variables))
    return _run([parser, *files], folder)


@pytest.mark.parametrize("merge", [_version_1, _version_2], ids=["v1", "v2"])
@pytest.mark.parametrize("overlays", OVERLAYS.values(), ids=OVERLAYS.keys())
def test_merges(merge: Merge, overlays: list[str], tmp_path: Path) -> None:
    files = ["compose.yaml", *(f"compose.{overlay}.yaml" for overlay in overlays)]
    merged = merge(files, tmp_path)
    services = merged["services"]
    assert all("image" in service for service in services.values())
    if "hostnet" in overlays:
        assert all(service["network_mode"] == "host" for service in services.values())
        assert not any(service.get("ports") for service in services.values())
        assert "127.0.0.1" in services["valkey"]["command"], "Redis would listen on every address of the host"
    if "sasl" in overlays:
        login = _environment(services["kafka"])["KAFKA_LISTENER_NAME_INTERNAL_PLAIN_SASL_JAAS_CONFIG"]
        for name in (
            "router",
            "mapper",
            "memory-tier-manager",
            "expert-worker-0",
            "expert-worker-1",
            "gateway",
            "load",
        ):
            variables = _environment(services[name])
            assert variables["COE_KAFKA_SASL_MECHANISM"] == "PLAIN"
            user, password = variables["COE_KAFKA_SASL_USERNAME"], variables["COE_KAFKA_SASL_PASSWORD"]
            assert f'user_{user}="{password}"' in login
    if "tls" in overlays:
        for name in ("router", "mapper", "memory-tier-manager", "expert-worker-0", "expert-worker-1", "gateway"):
            variables = _environment(services[name])
            assert variables["COE_KAFKA_SECURITY"] == "SSL"
            assert variables["COE_REDIS_URL"].startswith("rediss://")
            assert variables["COE_GRPC_TLS"] in ("mutual", "server")
        assert _environment(services["gateway"])["COE_GATEWAY_HTTP_TLS"] == "server"


def _environment(service: dict[str, Any]) -> dict[str, str]:
    """Written as a mapping or as a list, as the tool likes."""
    variables = service["environment"]
    return variables if isinstance(variables, dict) else dict(line.split("=", 1) for line in variables)
