"""What the library says of itself."""

import os
import struct
import subprocess
import sys

import pytest

from coe.native import ops_library_path

NAMES = ["portable", "avx2", "avx512", "amx"]
# Of an ELF file of 64 bits: where its program headers begin, the size of each, how many there are.
HEADERS = (("<Q", 32), ("<H", 54), ("<H", 56))
PT_TLS = 7
ASK = "from coe.native import instruction_set; print(instruction_set())"


def chosen(**environment: str) -> str:
    done = subprocess.run([sys.executable, "-c", ASK], env=os.environ | environment, capture_output=True, timeout=60)
    return done.stdout.decode().strip()


@pytest.mark.parametrize("wanted", NAMES)
def test_the_instruction_set_is_told_and_only_ever_lowered(wanted: str) -> None:
    assert NAMES.index(chosen(COE_NATIVE_ISA=wanted)) <= NAMES.index(wanted)


def test_a_thread_that_calls_it_pays_little_memory() -> None:
    """What it keeps for each thread is in place as soon as the thread calls it at all."""
    library = ops_library_path().read_bytes()
    at, size, count = (int(struct.unpack_from(form, library, offset)[0]) for form, offset in HEADERS)
    headers = [struct.unpack_from("<IIQQQQQQ", library, at + index * size) for index in range(count)]
    tls = [memory for kind, _, _, _, _, _, memory, _ in headers if kind == PT_TLS]
    assert sum(tls) < 4096


def test_the_portable_kernels_can_be_had_everywhere() -> None:
    assert chosen(COE_NATIVE_ISA="portable") == "portable"
