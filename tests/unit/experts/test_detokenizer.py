from hypothesis import given, settings
from hypothesis import strategies as st

from coe.experts.tokenizer import Detokenizer

BYTES = [bytes([value]) for value in range(256)]


@settings(deadline=None)
@given(st.binary(max_size=40))
def test_the_pieces_make_what_decoding_at_once_makes(data: bytes) -> None:
    detokenizer = Detokenizer(BYTES)
    pieces = [detokenizer.push(byte) for byte in data]
    assert "".join(pieces) + detokenizer.flush() == data.decode("utf-8", "replace")


def test_half_a_character_is_never_sent() -> None:
    detokenizer = Detokenizer(BYTES)
    assert [detokenizer.push(byte) for byte in "\u20ac!".encode()] == ["", "", "\u20ac", "!"]


def test_unknown_tokens_add_nothing() -> None:
    assert Detokenizer([b"a"]).push(7) == ""
