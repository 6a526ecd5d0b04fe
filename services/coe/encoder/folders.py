"""Folders for what can be made again."""

import os
from pathlib import Path


def cache_dir(name: str) -> Path:
    """A folder of ours in the user's cache (XDG base directories), made when it is missing."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = root / "coe" / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder
