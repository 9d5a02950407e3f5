"""No overlay: the hosts route to each other's containers. The upper bound of what this machine can do."""

from collections.abc import Sequence
from ipaddress import IPv4Interface

from bench.systems.base import System, address_at, connect_by_route, forward
from plait.host.netlink import Netlink
from plait.testing.lab import Container, Host

_MTU = 1500


class Routed(System):
    """One route per container on each host; containers have a host route only."""

    def __init__(self) -> None:
        self._hosts: list[Host] = []
        self._homes: list[tuple[str, Host]] = []

    def launch(self, host: Host, peers: Sequence[Host]) -> None:
        """Let the host forward, and tell it of the containers there are."""
        forward(host)
        self._hosts.append(host)
        for address, home in self._homes:
            self._route(host, address, home)

    def attach(self, host: Host, container: Container, cidr: str) -> None:
        """Join the container to its host, and tell all hosts."""
        connect_by_route(host, container, cidr, _MTU)
        address = str(IPv4Interface(cidr).ip)
        self._homes.append((address, host))
        for other in self._hosts:
            if other is not host:
                self._route(other, address, host)

    def _route(self, host: Host, address: str, home: Host) -> None:
        """Straight, or by a host that both can reach."""
        gateway = address_at(host, home) or next(
            gateway for via in self._hosts if address_at(via, home) and (gateway := address_at(host, via))
        )
        with Netlink(host.path) as netlink:
            netlink.add_route(f"{address}/32", gateway=gateway)
