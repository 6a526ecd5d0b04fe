"""Helm, if it is there."""

import shutil

import pytest

from support.helm import TOOLS


@pytest.fixture(scope="session")
def helm() -> str:
    found = shutil.which("helm") or shutil.which("helm", path=str(TOOLS))
    if found is None:
        pytest.skip("helm is not installed, and `make deploy-tools` could not build it (it needs Go)")
    return found
