"""The native path: tier arena, lease handles and the custom ops of domain `ai.coe.tiered` (OPS.md describes them).

The shared library is loaded at first use, so importing this package works without it; use then raises `ArtifactError`
that says how to build it.
"""

from coe.native._arena import HbmArena, SlotInfo, SlotState
from coe.native._handles import batch_invariant, lease_handle
from coe.native._library import checksum, instruction_set, ops_library_path, set_threads
from coe.native._load import Load
from coe.native._weights_file import WeightsFile

__all__ = [
    "HbmArena",
    "Load",
    "SlotInfo",
    "SlotState",
    "WeightsFile",
    "batch_invariant",
    "checksum",
    "instruction_set",
    "lease_handle",
    "ops_library_path",
    "set_threads",
]
