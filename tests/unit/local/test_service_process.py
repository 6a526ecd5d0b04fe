"""What a service is started with."""

from pathlib import Path

import pytest

from coe.local.ports import free_port
from coe.local.service import ServiceProcess, ServiceSpec
from coe.platform.errors import Unavailable


async def test_files_of_the_folder_where_the_stack_is_started_are_no_libraries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "structlog.py").write_text("raise RuntimeError('not this one')")
    monkeypatch.chdir(tmp_path)
    spec = ServiceSpec("gateway", "gateway", free_port(), {"COE_KAFKA_BOOTSTRAP": "nowhere"})
    with pytest.raises(Unavailable, match="status 1 while starting: COE_KAFKA_BOOTSTRAP: must be HOST:PORT"):
        async with ServiceProcess(spec, tmp_path / "logs", start_timeout_s=60, grace_s=0):
            pass
