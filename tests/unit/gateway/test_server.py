"""The HTTP server inside the gateway's process."""

import socket

import pytest
from starlette.applications import Starlette

from coe.gateway.server import HttpServer
from coe.gateway.settings import GatewaySettings
from coe.platform.errors import Unavailable


async def test_a_taken_port_is_an_error_of_ours() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=f"can't listen on 127.0.0.1:{port}"):
            await HttpServer(Starlette(), GatewaySettings(http_port=port)).run_until_cancelled()
