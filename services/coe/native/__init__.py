"""The native path: tier arena, lease handles, and the custom ops of domain `ai.coe.tiered` (described in OPS.md).

The shared library is loaded at first use, so this package can be imported without it. Using it then raises an
`ArtifactError` that says how to build the library.
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
