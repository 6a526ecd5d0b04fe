"""Cache folders, for files that can be recreated."""

import os
from pathlib import Path


def cache_dir(name: str) -> Path:
    """The folder `coe/NAME` in the user's cache (XDG base directories), created if missing."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "coe" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
