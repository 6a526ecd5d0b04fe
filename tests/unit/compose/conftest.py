"""Prometheus' promtool, if it is there."""

import pytest

from support.helm import tool


@pytest.fixture(scope="session")
def promtool() -> str:
    return tool("promtool")
