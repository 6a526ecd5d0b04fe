"""Tiers with room for two of the small experts."""

import pytest

from support.tiers_world import SIZES, World


@pytest.fixture
def world() -> World:
    world = World.of(SIZES, hbm=8)
    world.attach("w1", "w2")
    return world
