"""Helm, if it is there."""

import pytest

from support.helm import tool


@pytest.fixture(scope="session")
def helm() -> str:
    return tool("helm")
