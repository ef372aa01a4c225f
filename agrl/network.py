"""The host that a process is on, and the network interface by which the other hosts reach it."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass

ADDRESS = "AGRL_HOST_ADDRESS"
INTERFACES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")


@dataclass(frozen=True)
class Host:
    """A machine, or a container with an address of its own."""

    name: str
    address: str

    def __str__(self) -> str:
        return f"{self.name} ({self.address})"


def this_host() -> Host:
    """The host of this process. Its address: the one given to ``join_network``, of this machine alone before that."""
    return Host(socket.gethostname(), os.environ.get(ADDRESS, "127.0.0.1"))


def join_network(address: str) -> None:
    """Let collectives of this process use the interface that has ``address``, by which Ray knows this host.

    Left to themselves Gloo and NCCL ask for the address of the host's name, which Debian and the images of most clouds
    give as 127.0.1.1: ranks of two hosts never meet. An interface that the person has named stays.
    """
    os.environ[ADDRESS] = address
    if name := interface_of(address):
        for variable in INTERFACES:
            os.environ.setdefault(variable, name)


def interface_of(address: str) -> str:
    """The name of the interface that has ``address``, "" where none has (it is translated on the way)."""
    import psutil

    addresses = psutil.net_if_addrs()
    return next((name for name, found in addresses.items() if any(a.address == address for a in found)), "")
