"""No overlay: the hosts route to each other's containers. The upper bound of what this machine can do."""

from collections.abc import Sequence
from ipaddress import IPv4Interface

from bench.systems.base import System
from plait.host import sysctl
from plait.host.netlink import Netlink
from plait.testing.lab import Container, Host

_MTU = 1500
_GATEWAY = "169.254.1.1"  # link-local (RFC 3927): the host answers for it on each veth


class Routed(System):
    """One route per container on each host; containers have a host route only."""

    def __init__(self) -> None:
        self._hosts: list[Host] = []
        self._homes: list[tuple[str, Host]] = []

    def launch(self, host: Host, peers: Sequence[Host]) -> None:
        """Let the host forward, and tell it of the containers there are."""
        with host.entered():
            sysctl.write("net.ipv4.ip_forward", "1")
        for address, home in self._homes:
            _route(host, address, home)
        self._hosts.append(host)

    def attach(self, host: Host, container: Container, cidr: str) -> None:
        """Join the container to its host, and tell all hosts."""
        address, outer = str(IPv4Interface(cidr).ip), f"v-{container.name}"
        with Netlink(host.path) as netlink:
            netlink.create_veth(outer, "ethwe", _MTU, container.path)
            netlink.set_link(outer, up=True)
            netlink.add_address(outer, f"{_GATEWAY}/32")
            netlink.add_route(f"{address}/32", outer)
        with Netlink(container.path) as netlink:
            netlink.add_address("ethwe", f"{address}/32")
            netlink.set_link("ethwe", up=True)
            netlink.add_route(f"{_GATEWAY}/32", "ethwe", scope="link")
            netlink.add_route("0.0.0.0/0", gateway=_GATEWAY)
        self._homes.append((address, host))
        for other in self._hosts:
            if other is not host:
                _route(other, address, host)


def _route(host: Host, address: str, home: Host) -> None:
    with Netlink(host.path) as netlink:
        netlink.add_route(f"{address}/32", gateway=home.ip)
