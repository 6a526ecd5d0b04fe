"""What `make chaos` does to workers and tier manager for minutes, for twenty seconds."""

from pathlib import Path

import pytest

from coe.experts.bundle import Bundle
from support.kills import DRAIN_S, random_kills

KILLING_S = 20.0

pytestmark = [pytest.mark.kafka, pytest.mark.model, pytest.mark.timeout(KILLING_S + DRAIN_S + 120)]


async def test_random_kills_for_a_while(kafka_bootstrap: str, smollm2_bundle: Bundle, tmp_path: Path) -> None:
    await random_kills(kafka_bootstrap, smollm2_bundle, tmp_path, KILLING_S)
