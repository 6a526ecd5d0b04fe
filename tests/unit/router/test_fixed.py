"""A category for every prompt, for load tests."""

from pathlib import Path

import pytest

from coe.platform.bus.memory import MemoryBus
from coe.platform.errors import ArtifactError
from coe.platform.settings import CoreSettings
from coe.router.fixed import FixedCategory
from coe.router.service import RouterService
from coe.router.settings import RouterSettings


def service(home: Path, settings: RouterSettings) -> RouterService:
    return RouterService(CoreSettings(home=home), settings, MemoryBus())


def test_every_prompt_goes_to_it() -> None:
    decisions = FixedCategory("math", allowed=True).classify(["a poem", ""])
    assert [(decision.category, decision.router_version) for decision in decisions] == [("math", "fixed")] * 2


async def test_outside_load_tests_the_router_does_not_start_with_it(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="for load tests"):
        await service(tmp_path, RouterSettings(fixed_category="math")).start()


async def test_a_load_test_needs_no_encoder(tmp_path: Path) -> None:
    # Were the encoder or the artifact opened, these would be missed.
    nowhere = tmp_path / "nowhere"
    settings = RouterSettings(fixed_category="math", allow_fixed=True, encoder=nowhere, artifact=nowhere)
    router = service(tmp_path, settings)
    await router.start()
    for loop in router.tasks():
        loop.close()
    await router.stop()
