"""Frames arrive whole and in order, however the stream is cut; what is no frame ends the connection."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coe.platform.rpc.frames import Frames
from coe.platform.rpc.options import MAX_MESSAGE_BYTES


class Transport(asyncio.Transport):
    def __init__(self) -> None:
        self.written = b""
        self.aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True


def connected() -> tuple[Frames, Transport, list[bytes]]:
    seen: list[bytes] = []
    frames, transport = Frames(seen.append, lambda: None), Transport()
    frames.connection_made(transport)
    return frames, transport, seen


@given(st.lists(st.binary(max_size=40), max_size=8), st.data())
def test_frames_arrive_however_the_stream_is_cut(payloads: list[bytes], data: st.DataObject) -> None:
    frames, transport, seen = connected()
    for payload in payloads:
        frames.send(payload)
    stream = transport.written
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        frames.data_received(stream[start:end])
    assert seen == payloads


def test_a_frame_that_is_too_long_ends_the_connection() -> None:
    frames, transport, seen = connected()
    frames.data_received((MAX_MESSAGE_BYTES + 1).to_bytes(4, "little"))
    assert transport.aborted
    assert not seen


def test_a_peer_may_be_refused() -> None:
    transport = Transport()
    Frames(lambda frame: None, lambda: None, lambda peer: False).connection_made(transport)
    assert transport.aborted


@pytest.fixture
async def pair() -> AsyncIterator[tuple[Frames, socket.socket, asyncio.Event]]:
    ours, theirs = socket.socketpair()
    ended = asyncio.Event()
    _, frames = await asyncio.get_running_loop().create_unix_connection(
        lambda: Frames(lambda frame: None, ended.set), sock=ours
    )
    yield frames, theirs, ended
    frames.close()
    theirs.close()


async def test_the_end_is_told_once_and_sending_after_it_does_nothing(
    pair: tuple[Frames, socket.socket, asyncio.Event],
) -> None:
    frames, theirs, ended = pair
    theirs.close()
    await asyncio.wait_for(ended.wait(), 10)
    frames.send(b"too late")
