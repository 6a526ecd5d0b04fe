"""Chooses free loopback ports for the servers of a stack."""

import random
import socket

from coe.platform.errors import Unavailable

# Below the ephemeral ports of Linux (32768 and up), so no outgoing connection can take a port between the time it is
# chosen here and the time the server binds it.
_LOWEST, _HIGHEST = 15000, 32000
_ATTEMPTS = 200
_given: set[int] = set()


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(host: str = "127.0.0.1") -> int:
    """Returns a free port, never the same one twice in a process. Raises Unavailable if none is found."""
    for _ in range(_ATTEMPTS):
        port = random.randint(_LOWEST, _HIGHEST)
        if port not in _given and is_free(port, host):
            _given.add(port)
            return port
    raise Unavailable(f"no free port between {_LOWEST} and {_HIGHEST} on {host}")
