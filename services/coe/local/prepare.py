"""Prepares a COE_HOME: imports the packaged expert if it has none, and binds mapped experts to hosted bundles.

`python -m coe.local.prepare` does this without starting a stack.
"""

import asyncio
import shutil
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path

from coe.experts.bundle import Bundle
from coe.experts.catalogue import Catalogue
from coe.experts.left_out import LeftOut
from coe.local import packaged
from coe.local.home import SHARED_MEMORY
from coe.local.options import StackOptions
from coe.mapper import bindings, mapping_file
from coe.mapper.settings import MapperSettings
from coe.memory_tier_manager.extents import rounded
from coe.platform.errors import ArtifactError, CoEError, Unavailable
from coe.platform.settings import CoreSettings

# How many experts fit in the HBM tier by default: fewer than are hosted, so that experts are switched.
_EXPERTS_IN_HBM = 3

Step = Callable[[str], None]


async def prepare(
    home: Path, options: StackOptions, on_step: Step, on_warning: Callable[[str], None]
) -> Sequence[Bundle]:
    """Returns the experts that the home hosts, after importing the packaged one if there are none or it is outdated.

    `on_warning` is called for each expert that can't be used. Raises ArtifactError or Unavailable.
    """
    catalogue = Catalogue(home / "experts")
    hosted, left_out = await asyncio.to_thread(catalogue.look)
    if not hosted or any(one.outdated and _is_packaged(one) for one in left_out):
        on_step(f"importing {packaged.EXPERT_ID} from the package {packaged.PACKAGE}")
        # If there are other experts, it is optional and gets no copies; a failure is among the warnings below.
        with suppress(ArtifactError) if hosted else nullcontext():
            await asyncio.to_thread(packaged.host, catalogue, 0 if hosted else options.replicas - 1)
        hosted, left_out = await asyncio.to_thread(catalogue.look)
    if await asyncio.to_thread(_renew, catalogue, [bundle.id for bundle in hosted], left_out):
        hosted, left_out = await asyncio.to_thread(catalogue.look)
    for one in left_out:
        on_warning(str(one))
    if not (home / bindings.FILE_NAME).exists():
        await asyncio.to_thread(_bind, home, hosted)
    return hosted


def _is_packaged(one: LeftOut) -> bool:
    return one.expert_id == packaged.EXPERT_ID and one.source.startswith(f"pypi:{packaged.PACKAGE} ")


def _renew(catalogue: Catalogue, hosted: Sequence[str], left_out: Sequence[LeftOut]) -> bool:
    """Recreates outdated copies of hosted experts. Returns whether there were any."""
    copies = [one.replica for one in left_out if one.outdated and one.replica and one.replica[0] in hosted]
    for expert_id, number in copies:
        catalogue.replicate(expert_id, number)
    return bool(copies)


def _bind(home: Path, hosted: Sequence[Bundle]) -> None:
    """Writes a bindings.yaml that gives each expert of the mapping a hosted bundle."""
    mapped = [
        expert.name for expert in mapping_file.load_mapping(MapperSettings().mapping or mapping_file.locate(home)).pool
    ]
    stand_ins = bindings.spread(mapped, [bundle.id for bundle in hosted])
    bindings.write_bindings(home / bindings.FILE_NAME, stand_ins)


def hbm_bytes(options: StackOptions, hosted: Sequence[Bundle]) -> int:
    """Returns the size of the HBM tier: as set, or room for three of the largest expert.

    Raises Unavailable if shared memory has no room for it.
    """
    largest = max((bundle.weights_bytes for bundle in hosted), default=0)
    wanted = options.hbm_bytes or _EXPERTS_IN_HBM * rounded(largest)
    free = shutil.disk_usage(SHARED_MEMORY).free
    if wanted > free:
        raise Unavailable(
            f"{SHARED_MEMORY} has {free >> 20} MiB free and the HBM tier takes {wanted >> 20}: `coe doctor --clean` "
            f"removes what managers that were killed left there, COE_STACK_HBM_BYTES makes it smaller, "
            f"mount -o remount,size=... {SHARED_MEMORY} makes room"
        )
    return wanted


if __name__ == "__main__":
    try:
        for bundle in asyncio.run(prepare(CoreSettings().home, StackOptions(), print, print)):
            print(bundle.id)
    except CoEError as error:
        sys.exit(f"coe: {error.message}")
