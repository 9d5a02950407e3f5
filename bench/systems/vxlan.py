"""Kernel VXLAN and a Linux bridge, the other hosts in its table by hand: what an administrator might build."""

from collections.abc import Sequence

from bench.systems.base import System, connect_to_bridge
from plait.testing.lab import Container, Host, Port, Segment

_MTU = 1450  # 1500 without outer IPv4, UDP, VXLAN and inner Ethernet headers
_BRIDGE = """
ip link add br0 mtu {mtu} type bridge
ip link set br0 up
"""
_TUNNEL = """
ip link add {device} mtu {mtu} type vxlan id {id} dstport 4789 local {local} nolearning
ip link set {device} master br0 up
"""
_FIRST_ID = 42
_ANY = "00:00:00:00:00:00"


class VxlanBridge(System):
    """Frames for whatever address go to all other hosts: with two hosts, to the right one.

    A host between two segments has a tunnel on each, and its bridge joins them.
    """

    def __init__(self) -> None:
        self._hosts: list[Host] = []
        self._segments: list[Segment] = []

    def launch(self, host: Host, peers: Sequence[Host]) -> None:
        """Make bridge and tunnels, and enter all hosts into each other's tables."""
        host.run(["sh", "-ec", _BRIDGE.format(mtu=_MTU)])
        for port in host.ports:
            device, number = self._tunnel(port)
            script = _TUNNEL.format(device=device, mtu=_MTU, id=number, local=port.address.ip)
            host.run(["sh", "-ec", script])
            for other in self._hosts:
                for there in (each for each in other.ports if each.segment is port.segment):
                    _append(host, device, there)
                    _append(other, device, port)
        self._hosts.append(host)

    def _tunnel(self, port: Port) -> tuple[str, int]:
        """The same device and network identifier for all on a segment."""
        if port.segment not in self._segments:
            self._segments.append(port.segment)
        number = self._segments.index(port.segment)
        return f"vxlan{number}", _FIRST_ID + number

    def attach(self, host: Host, container: Container, cidr: str) -> None:
        """Join the container to the bridge."""
        connect_to_bridge(host, container, cidr, "br0", _MTU)


def _append(host: Host, device: str, there: Port) -> None:
    host.run(["bridge", "fdb", "append", _ANY, "dev", device, "dst", str(there.address.ip)])
