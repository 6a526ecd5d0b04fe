"""One embedded stack for all end-to-end tests."""

from collections.abc import Iterator

import pytest

from support.stack import RunningStack, running_stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    with running_stack(tmp_path_factory.mktemp("coe-home")) as stack:
        yield stack
