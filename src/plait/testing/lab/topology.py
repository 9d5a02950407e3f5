"""The shape of a lab: segments with their subnets, the ports on them, and the way between them. Pure."""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network, ip_interface

Network = IPv4Network | IPv6Network
Interface = IPv4Interface | IPv6Interface

_FIRST_ROUTER = 254  # hosts count up from .1, routers down from here


@dataclass(eq=False)
class Segment:
    """One subnet, of IPv4 or IPv6 alone: a switch, or a cable between two hosts. `bridge` is the switch's device.

    A cable has none.
    """

    name: str
    subnet: Network
    mtu: int
    bridge: str | None
    _hosts: int = field(default=0, repr=False)
    _routers: int = field(default=0, repr=False)

    def next_host(self) -> Interface:
        """The next free address for a host."""
        self._hosts += 1
        return self._address(self._hosts)

    def next_router(self) -> Interface:
        """The next free address for a router."""
        self._routers += 1
        return self._address(_FIRST_ROUTER + 1 - self._routers)

    def _address(self, number: int) -> Interface:
        return ip_interface((self.subnet.network_address + number, self.subnet.prefixlen))


@dataclass(frozen=True, eq=False)
class Port:
    """A node's end on a segment: `device` inside the node, `outer` its other end at the switch (a cable has none)."""

    segment: Segment
    device: str
    outer: str | None
    address: Interface


@dataclass(frozen=True)
class Gateway:
    """What forwards between segments: its address on each, and whether a packet may go from one to another."""

    addresses: Mapping[Segment, IPv4Address | IPv6Address]
    one_way_from: Segment | None = None

    def passes(self, source: Segment, target: Segment) -> bool:
        """Whether it forwards what comes from one of its segments and is for another."""
        return source is not target and self.one_way_from in (None, source)


def next_hops(start: Iterable[Segment], gateways: Iterable[Gateway]) -> dict[Network, IPv4Address | IPv6Address]:
    """Routes for a node on the segments `start`: for each subnet it can reach, the gateway on the shortest way."""
    known = list(gateways)
    hops: dict[Segment, IPv4Address | IPv6Address | None] = dict.fromkeys(start)
    queue = deque(hops)
    while queue:
        segment = queue.popleft()
        for gateway in known:
            if segment not in gateway.addresses:
                continue
            for target in gateway.addresses:
                if target not in hops and gateway.passes(segment, target):
                    hops[target] = hops[segment] or gateway.addresses[segment]
                    queue.append(target)
    return {segment.subnet: hop for segment, hop in hops.items() if hop is not None}
