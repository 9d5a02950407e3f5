"""The network under the overlay: which device and MTU lead to a peer, which addresses are ours, what overlaps.

Looks in the network namespace of the calling thread, and changes nothing. Not for an event loop's thread.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_interface
from pathlib import Path

from plait.host.netlink import Netlink, Route

_DEVICES = Path("/sys/class/net")


@dataclass(frozen=True, slots=True)
class Uplink:
    """The device of the default route."""

    device: str
    mtu: int
    is_ipv6: bool = False
    """The route is one of IPv6."""


def mtu_of_route(address: str | IPv4Address | IPv6Address) -> int | None:
    """The largest IP packet that the first hop to an address takes; None without a route.

    It is the device's MTU, or the route's own if that is lower (made so, or learnt from an ICMP message).
    """
    with Netlink() as netlink:
        route = netlink.route_to(address)
        link = netlink.link(route.device) if route else None
    if route is None or link is None:
        return None
    return min(link.mtu, route.mtu or link.mtu)


def interface_mtus(addresses: Sequence[str]) -> list[int | None]:
    """The MTU of the device towards each address, whatever a router said of the path; None without a route."""
    mtus: list[int | None] = []
    with Netlink() as netlink:
        known: dict[str, int | None] = {}
        for address in addresses:
            route = netlink.route_to(address)
            if route is None:
                mtus.append(None)
                continue
            if route.device not in known:
                link = netlink.link(route.device)
                known[route.device] = link.mtu if link else None
            mtus.append(known[route.device])
    return mtus


def devices(addresses: Sequence[str]) -> dict[str, str]:
    """The interface towards each address; what has no route is left out."""
    with Netlink() as netlink:
        routes = {address: netlink.route_to(address) for address in addresses}
    return {address: route.device for address, route in routes.items() if route is not None and route.device}


def sent_packets(device: str) -> int | None:
    """How many packets an interface has sent, as its driver counts; None if it is gone."""
    try:
        return int((_DEVICES / device / "statistics" / "tx_packets").read_text())
    except (OSError, ValueError):
        return None


def default_uplink() -> Uplink | None:
    """The device by which packets to everywhere leave, rather by IPv4 than by IPv6; None without a default route."""
    with Netlink() as netlink:
        found = [route for route in netlink.routes() if route.destination.prefixlen == 0]
        for route in sorted(found, key=lambda route: route.destination.version):
            link = netlink.link(route.device)
            if link is not None:
                return Uplink(link.name, link.mtu, route.destination.version == 6)
    return None


def local_addresses() -> frozenset[IPv4Address | IPv6Address]:
    """Every address of this host, loopback's too."""
    with Netlink() as netlink:
        return frozenset(address.cidr.ip for address in netlink.addresses())


def overlap(cidr: str | IPv4Interface | IPv6Interface, ignored_devices: Collection[str] = ()) -> str | None:
    """Say by which route of the host a network or an address would be hidden, in Weave's words; None if by none."""
    with Netlink() as netlink:
        return overlap_with(ip_interface(cidr), netlink.routes(), ignored_devices)


def overlap_with(
    cidr: IPv4Interface | IPv6Interface, routes: Iterable[Route], ignored_devices: Collection[str] = ()
) -> str | None:
    """The same, of the given routes. A CIDR with host bits is one address; default routes hide nothing."""
    whole_network = cidr.ip == cidr.network.network_address
    for route in routes:
        hidden = _touches(cidr, route.destination) if whole_network else cidr.ip in route.destination
        if hidden and route.destination.prefixlen > 0 and route.device not in ignored_devices:
            what = f"Network {cidr.network}" if whole_network else f"Address {cidr.ip}"
            return f"{what} overlaps with existing route {route.destination} on host"
    return None


def _touches(cidr: IPv4Interface | IPv6Interface, other: IPv4Network | IPv6Network) -> bool:
    return cidr.network.version == other.version and (
        other.network_address in cidr.network or cidr.network.network_address in other
    )
