"""Kernel VXLAN and a Linux bridge, the other hosts in its table by hand: what an administrator might build."""

from collections.abc import Sequence

from bench.systems.base import System, connect_to_bridge
from plait.testing.lab import Container, Host

_MTU = 1450  # 1500 without outer IPv4, UDP, VXLAN and inner Ethernet headers
_MAKE = """
ip link add br0 mtu {mtu} type bridge
ip link add vxlan0 mtu {mtu} type vxlan id 42 dstport 4789 local {local} nolearning
ip link set vxlan0 master br0 up
ip link set br0 up
"""
_ANY = "00:00:00:00:00:00"


class VxlanBridge(System):
    """Frames for whatever address go to all other hosts: with two hosts, to the right one."""

    def __init__(self) -> None:
        self._hosts: list[Host] = []

    def launch(self, host: Host, peers: Sequence[Host]) -> None:
        """Make bridge and tunnel, and enter all hosts into each other's table."""
        host.run(["sh", "-ec", _MAKE.format(mtu=_MTU, local=host.ip)])
        for other in self._hosts:
            for here, there in ((host, other), (other, host)):
                here.run(["bridge", "fdb", "append", _ANY, "dev", "vxlan0", "dst", there.ip])
        self._hosts.append(host)

    def attach(self, host: Host, container: Container, cidr: str) -> None:
        """Join the container to the bridge."""
        connect_to_bridge(host, container, cidr, "br0", _MTU)
