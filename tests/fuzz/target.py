"""One target under atheris: `python -m fuzz.target TARGET [libFuzzer's options] CORPUS...`."""

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["coe"]):
    from fuzz.readers import READERS
from coe.platform.errors import CoEError
from fuzz import c_abi


def main() -> None:
    name = sys.argv.pop(1)
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
