"""A router that is trained once, on a few prompts."""

from pathlib import Path
from typing import cast

import pytest

from coe.encoder import Encoder
from coe.router.training.build import Trained, build
from unit.router.small_training import FAST, KIND, OTHERS, WordEncoder, prompts


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Encoder:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cast("Encoder", WordEncoder())


@pytest.fixture(scope="package")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        return build(prompts(), [], cast("Encoder", WordEncoder()), kind=KIND, others=OTHERS, seed=3, settings=FAST)
