"""Where libcoe_native.so is: in the package (wheel, in-place build) or in site-packages (editable install)."""

import os
import sys
from pathlib import Path

from coe.platform.errors import ArtifactError

LIBRARY = "libcoe_native.so"


def find_library() -> Path:
    """$COE_NATIVE_LIBRARY, else the newest build on the import path. Raises ArtifactError when there is none."""
    given = os.environ.get("COE_NATIVE_LIBRARY")
    if given:
        path = Path(given)
        if path.is_file():
            return path
        raise ArtifactError(f"COE_NATIVE_LIBRARY={given} is not a file")
    folders = [Path(__file__).parent, *(Path(entry) / "coe" / "native" for entry in sys.path if entry)]
    found = [folder / LIBRARY for folder in folders if (folder / LIBRARY).is_file()]
    if not found:
        raise ArtifactError(f"{LIBRARY} is not built: run `tools/native.sh build` or `pip install .`")
    return max(found, key=lambda path: path.stat().st_mtime)
