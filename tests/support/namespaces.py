"""Network namespaces with a bridge between them: machines of a cluster, on one. Needs root and `ip`."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

# For measurements between networks (RFC 2544): routed nowhere.
_NETWORK = "198.18.0"


@dataclass(frozen=True)
class Machine:
    """`enter` goes before a command that is to run there."""

    name: str
    address: str
    enter: tuple[str, ...]


def ip(*arguments: str) -> None:
    """Raises OSError or CalledProcessError where it is not permitted."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True, timeout=10)


@contextmanager
def machines(names: Sequence[str]) -> Iterator[list[Machine]]:
    """The first holds the bridge. Nothing of the host's own network is touched; all is gone at the end."""
    prefix = f"coe{os.getpid()}"
    made = [
        Machine(f"{prefix}-{name}", f"{_NETWORK}.{number}", ("ip", "netns", "exec", f"{prefix}-{name}"))
        for number, name in enumerate(names, start=1)
    ]
    with ExitStack() as stack:
        for machine in made:
            ip("netns", "add", machine.name)
            stack.callback(ip, "netns", "del", machine.name)
            ip("-n", machine.name, "link", "set", "lo", "up")
        hub = made[0].name
        ip("-n", hub, "link", "add", "br0", "type", "bridge")
        ip("-n", hub, "addr", "add", f"{made[0].address}/24", "dev", "br0")
        ip("-n", hub, "link", "set", "br0", "up")
        for number, machine in enumerate(made[1:], start=1):
            port = f"port{number}"
            ip("-n", hub, "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", machine.name)
            ip("-n", hub, "link", "set", port, "master", "br0", "up")
            ip("-n", machine.name, "addr", "add", f"{machine.address}/24", "dev", "eth0")
            ip("-n", machine.name, "link", "set", "eth0", "up")
        yield made
