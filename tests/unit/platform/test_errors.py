"""Every error of the tree survives gRPC, and the table in the module's docstring tells the truth."""

import re
from pathlib import Path
from urllib.parse import quote

import grpc
import grpc.aio
import pytest

from coe.platform import errors
from coe.platform.rpc import status

RUNBOOK = Path(__file__).parents[3] / "docs" / "operations" / "runbook.md"
KINDS = [kind for kind in errors.walk(errors.CoEError) if kind is not errors.CoEError]


@pytest.mark.parametrize("kind", KINDS)
def test_an_error_comes_back_from_its_status(kind: type[errors.CoEError]) -> None:
    sent = status.to_grpc(kind("it broke", expert="a"))
    received = status.from_call(
        grpc.aio.AioRpcError(sent.code, grpc.aio.Metadata(), grpc.aio.Metadata(*sent.trailing_metadata), sent.details)
    )
    assert type(received) is kind
    assert received.message == "it broke"
    assert received.details == {"expert": "a"}


def test_a_failure_of_grpc_itself_is_named() -> None:
    lost = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), grpc.aio.Metadata(), "no route")
    assert isinstance(status.from_call(lost), errors.Unavailable)


def test_long_messages_fit_the_trailers() -> None:
    packed = status.to_status(errors.InvalidPrompt("x" * 100_000, prompt="y" * 100_000))
    assert packed.ByteSize() < 4096


@pytest.mark.parametrize("character", ["x", "\n", "é", "漢", "😀", "\ud800"])
def test_trailers_have_an_end_in_any_alphabet(character: str) -> None:
    details = {f"detail_{number}": character * 1000 for number in range(10)}
    sent = status.to_grpc(errors.InvalidPrompt(character * 10_000, **details))
    encoded = len(quote(sent.details, safe=""))
    rich = sum(len(value) for _, value in sent.trailing_metadata)
    assert encoded + rich * 4 / 3 < 8192 - 512
    assert set(sent.details) == {character if character != "\ud800" else "?"}


@pytest.mark.parametrize("kind", KINDS)
def test_the_table_agrees(kind: type[errors.CoEError]) -> None:
    assert errors.__doc__ is not None
    retry = "yes" if kind.retryable else "no"
    row = rf"\* {kind.__name__}\s+{kind.code}\s+{retry}\s+{kind.grpc_status.name}\s+{kind.http_status}\n"
    assert re.search(row, errors.__doc__)


def test_codes_are_unique() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)


def test_the_runbook_has_a_row_for_every_code() -> None:
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", RUNBOOK.read_text().partition("## Codes")[2], re.MULTILINE)
    assert [code for code, _ in rows] == [kind.code for kind in errors_by_place()]
    for code, row in rows:
        meaning, whose, look = row.split(" | ")
        assert meaning.strip(), code
        assert look.strip(), code
        assert ("client" in whose or "producer" in whose) >= by_code(code).of_client


def errors_by_place() -> list[type[errors.CoEError]]:
    """In the order of the table in the module."""
    assert errors.__doc__ is not None
    return [kind for name in re.findall(r"\* (\w+) ", errors.__doc__) for kind in KINDS if kind.__name__ == name]


def by_code(code: str) -> type[errors.CoEError]:
    return next(kind for kind in KINDS if kind.code == code)
