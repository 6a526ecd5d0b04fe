"""What the library says of itself."""

import os
import subprocess
import sys

import pytest

NAMES = ["portable", "avx2", "avx512", "amx"]
ASK = "from coe.native import instruction_set; print(instruction_set())"


def chosen(**environment: str) -> str:
    done = subprocess.run([sys.executable, "-c", ASK], env=os.environ | environment, capture_output=True, timeout=60)
    return done.stdout.decode().strip()


@pytest.mark.parametrize("wanted", NAMES)
def test_the_instruction_set_is_told_and_only_ever_lowered(wanted: str) -> None:
    assert NAMES.index(chosen(COE_NATIVE_ISA=wanted)) <= NAMES.index(wanted)


def test_the_portable_kernels_can_be_had_everywhere() -> None:
    assert chosen(COE_NATIVE_ISA="portable") == "portable"
