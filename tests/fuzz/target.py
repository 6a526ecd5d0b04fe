"""One target under atheris: `python -m fuzz.target TARGET [libFuzzer's options] CORPUS...`."""

import gc
import sys
import tempfile
import types
from contextlib import suppress
from pathlib import Path

import atheris

from coe.platform.errors import CoEError
from fuzz import c_abi
from fuzz.readers import READERS

COVERED = ("coe.experts.", "coe.native.", "fuzz.", "json.")


def instrument() -> None:
    """Once imported: the loader of an editable installation is none that atheris can instrument."""
    for function in [value for value in gc.get_objects() if isinstance(value, types.FunctionType)]:
        if (function.__module__ or "").startswith(COVERED):
            atheris.instrument_func(function)


def main() -> None:
    name = sys.argv.pop(1)
    instrument()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "input")
        world = c_abi.World(Path(folder)) if name == "c_abi" else None

        def one_input(data: bytes) -> None:
            if world is not None:
                c_abi.drive(world, data)
                return
            path.write_bytes(data)
            with suppress(CoEError):
                READERS[name](path)

        atheris.Setup(sys.argv, one_input)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
