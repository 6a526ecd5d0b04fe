"""What a program gets that uses `coe.client`."""

import re
import subprocess
import sys

import pytest

import coe.client
from coe.client import CoEError, PromptClient, connect
from coe.platform.errors import walk

_PROGRAM = """
import asyncio
from coe.client import Unavailable, connect

async def main():
    try:
        async with connect("127.0.0.1:9", timeout_s=2):
            pass
    except Unavailable as error:
        print(error)

asyncio.run(main())
"""


def test_stdout_is_the_program_s() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.stdout == "no Kafka broker answers at 127.0.0.1:9\n"
    assert "the broker can't be reached" in done.stderr


@pytest.mark.parametrize("documented", [connect, PromptClient.submit])
def test_every_error_that_is_promised_can_be_caught(documented: object) -> None:
    words = set(re.findall(r"\w+", str(documented.__doc__)))
    named = words & {kind.__name__ for kind in walk(CoEError)}
    assert named
    assert named <= set(coe.client.__all__)


async def test_an_address_that_is_none_is_told_at_once() -> None:
    with pytest.raises(ValueError, match="must be HOST:PORT"):
        async with connect("nowhere"):
            pass
