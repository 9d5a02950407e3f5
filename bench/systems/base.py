"""What every system under measurement can do."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Interface

from plait.host import sysctl
from plait.host.netlink import Netlink
from plait.testing.lab import Container, Host

PREFIX_LENGTH = 12
_GATEWAY = "169.254.1.1"  # link-local (RFC 3927): the host answers for it on each veth


class System(ABC):
    """A way to join containers of several hosts. An object serves one lab; hosts are launched one after the other."""

    @abstractmethod
    def launch(self, host: Host, peers: Sequence[Host]) -> None:
        """Start it on a host, towards hosts where it runs, and return when containers can be attached."""

    @abstractmethod
    def attach(self, host: Host, container: Container, cidr: str) -> None:
        """Give a container its interface and address."""

    def processes(self, host: Host) -> Mapping[str, int]:
        """Give the process ids of its node on a host, by what they are; empty if it works without any."""
        return {}

    def is_settled(self) -> bool:
        """Say whether what it finds out about its paths, after the first packet, is found out."""
        return True

    def close(self) -> None:
        """End what the lab does not end by itself."""
        return


def number_of(host: Host) -> int:
    """Give 1 for host h1, and so on; container c1 is there."""
    return int(host.name.removeprefix("h"))


def address_at(host: Host, peer: Host) -> str | None:
    """Give a peer's underlay address on a segment that both are on; None if there is no such segment."""
    reached = {port.segment for port in host.ports}
    return next((str(port.address.ip) for port in peer.ports if port.segment in reached), None)


def cidr(number: int) -> str:
    """Give the address of container 1, 2, ... on the overlay."""
    return f"10.32.0.{number}/{PREFIX_LENGTH}"


def forward(host: Host) -> None:
    """Let a host forward between its devices."""
    with host.entered():
        sysctl.write("net.ipv4.ip_forward", "1")


def connect_to_bridge(host: Host, container: Container, cidr: str, bridge: str, mtu: int) -> None:
    """Join a container to a bridge by a veth pair, as a script would."""
    outer = f"v-{container.name}"
    with Netlink(host.path) as netlink:
        netlink.create_veth(outer, "ethwe", mtu, container.path)
        netlink.set_link(outer, master=bridge, up=True)
    with Netlink(container.path) as netlink:
        netlink.add_address("ethwe", cidr)
        netlink.set_link("ethwe", up=True)


def connect_by_route(host: Host, container: Container, cidr: str, mtu: int) -> None:
    """Join a container to its host by a veth pair without a bridge: all it sends is forwarded by the host."""
    address, outer = str(IPv4Interface(cidr).ip), f"v-{container.name}"
    with Netlink(host.path) as netlink:
        netlink.create_veth(outer, "ethwe", mtu, container.path)
        netlink.set_link(outer, up=True)
        netlink.add_address(outer, f"{_GATEWAY}/32")
        netlink.add_route(f"{address}/32", outer)
    with Netlink(container.path) as netlink:
        netlink.add_address("ethwe", f"{address}/32")
        netlink.set_link("ethwe", up=True)
        netlink.add_route(f"{_GATEWAY}/32", "ethwe", scope="link")
        netlink.add_route("0.0.0.0/0", gateway=_GATEWAY)
