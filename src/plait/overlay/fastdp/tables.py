"""Keys and values of the datapath's maps as bytes: the Python side of bpf/layout.h, whose order and sizes these are."""

import socket
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct

from plait.mesh.shortids import SHORT_IDS
from plait.overlay.outer import is_ipv6

MAX_FANOUT = 200
EVENT_BYTES = 60

NO_ID = SHORT_IDS
"""Stands for "no short id" in the kernel: no frame is ours and none is sent by VXLAN."""

ID = Struct("=I")
"""Key of the arrays."""

_CONF = Struct("=III2sH")
_CONTAINER = Struct("=II")
_LEARNED = Struct("=QHHI")
_NEXTHOP = Struct("=4s4sIHHHH16s16s")
_NEIGHBOUR = Struct("=4sHH")
_NEIGHBOUR6 = Struct("=16sHH")
_STATS = Struct("=QQQQ")
_COUNT = Struct("=Q")
_EVENT = Struct(f"=HH16sI{EVENT_BYTES}s")
_NONE, _NONE6 = bytes(4), bytes(16)
_NH_IPV6 = 4
_MAPPED = bytes(10) + b"\xff\xff"
"""In front of an IPv4 address that stands where one of IPv6 has its place."""

_FAN = Struct(f"=I{MAX_FANOUT}HI")


class Via(IntEnum):
    """How frames for a peer leave."""

    NOTHING = 0
    VXLAN = 1
    PUMP = 2


class HopFlag(IntFlag):
    """Of a next hop."""

    NONE = 0
    DIRECT = 1
    """The programs write the outer headers themselves."""
    KERNEL_ANSWERS = 2
    """The MTU is the underlay interface's: the VXLAN device answers oversize frames."""


DROPS = (
    "runt",
    "no_route",
    "foreign",
    "forged",
    "echo",
    "returned",
    "spanning_tree",
    "tagged",
    "no_tunnel",
    "local",
    "events_full",
)
"""Reasons in the order of `enum drop`."""

DROP_REASONS = {
    "runt": "frames without an Ethernet header",
    "no_route": "frames for peers without a route",
    "foreign": "VXLAN packets from hosts that are no neighbours of this node",
    "forged": "frames of containers that imitate heartbeats or VXLAN of a neighbour, or heartbeats for another peer",
    "echo": "frames that claim to come from this node",
    "returned": "frames whose next hop sent them here: peers disagree about the topology",
    "spanning_tree": "spanning tree frames, which stay on their bridge",
    "tagged": "frames of containers with 802.1ad tags, which user space cannot carry",
    "no_tunnel": "frames that found no memory for their tunnel headers",
    "local": "flooded frames for containers of this host",
    "events_full": "heartbeats that the node was too slow to read",
}
"""The same for people."""


@dataclass(frozen=True, slots=True)
class NextHop:
    """How frames for one peer leave. Addresses are of one version of IP; `underlay` is an interface number."""

    via: Via
    hop: int = 0
    """Short id of the neighbour."""
    remote: str = "0.0.0.0"
    local: str = "0.0.0.0"
    underlay: int = 0
    mtu: int = 0
    """Of inner IP packets, bytes."""
    flags: HopFlag = HopFlag.NONE

    def pack(self) -> bytes:
        """Give the map's value."""
        ends = pack_address(self.remote), pack_address(self.local)
        rest = self.hop, self.mtu
        if is_ipv6(self.remote):
            return _NEXTHOP.pack(_NONE, _NONE, self.underlay, self.via, self.flags | _NH_IPV6, *rest, *ends)
        return _NEXTHOP.pack(*ends, self.underlay, self.via, self.flags, *rest, _NONE6, _NONE6)

    @classmethod
    def unpack(cls, value: bytes) -> "NextHop":
        """Read the map's value; what no version of plait wrote is no way at all."""
        remote, local, underlay, via, flags, hop, mtu, remote6, local6 = _NEXTHOP.unpack(value)
        if flags & _NH_IPV6:
            remote, local, flags = remote6, local6, flags & ~_NH_IPV6
        if via not in Via.__members__.values() or flags & ~(HopFlag.DIRECT | HopFlag.KERNEL_ANSWERS):
            return NO_WAY
        ends = unpack_address(remote), unpack_address(local)
        return cls(Via(via), hop, *ends, underlay, mtu, HopFlag(flags))


NO_WAY = NextHop(Via.NOTHING)


@dataclass(frozen=True, slots=True)
class Fan:
    """Whom a source's broadcasts go to: short ids of neighbours by VXLAN, and whether the pump serves others."""

    hops: tuple[int, ...] = ()
    has_pump: bool = False

    def pack(self) -> bytes:
        """Give the map's value; at most MAX_FANOUT hops."""
        hops = self.hops[:MAX_FANOUT]
        return _FAN.pack(len(hops), *hops, *(0,) * (MAX_FANOUT - len(hops)), self.has_pump)

    @classmethod
    def unpack(cls, value: bytes) -> "Fan":
        """Read the map's value."""
        count, *hops, has_pump = _FAN.unpack(value)
        return cls(tuple(hops[: min(count, MAX_FANOUT)]), bool(has_pump))


@dataclass(frozen=True, slots=True)
class Conf:
    """The one entry of `conf`: interface numbers, UDP port, our short id (NO_ID for none)."""

    our_id: int
    vxlan: int
    tap: int
    port: int

    def pack(self) -> bytes:
        """Give the map's value."""
        return _CONF.pack(self.our_id, self.vxlan, self.tap, self.port.to_bytes(2, "big"), 0)

    @classmethod
    def unpack(cls, value: bytes) -> "Conf":
        """Read the map's value."""
        if not any(value):
            return cls(NO_ID, 0, 0, 0)  # never written
        our_id, vxlan, tap, port, _ = _CONF.unpack(value)
        return cls(our_id, vxlan, tap, int.from_bytes(port, "big"))


@dataclass(frozen=True, slots=True)
class PeerStats:
    """Frames and bytes exchanged with a neighbour, as a sum over CPUs."""

    tx_packets: int = 0
    tx_bytes: int = 0
    rx_packets: int = 0
    rx_bytes: int = 0

    @classmethod
    def total(cls, values: list[bytes]) -> "PeerStats":
        """Add the values of all CPUs."""
        return cls(*map(sum, zip(*map(_STATS.unpack, values), strict=True)))


@dataclass(frozen=True, slots=True)
class Event:
    """A heartbeat that came in; `head` has the first EVENT_BYTES of its frame, zeros where it is shorter."""

    source: int
    remote: str
    length: int
    head: bytes

    @classmethod
    def unpack(cls, record: bytes) -> "Event | None":
        """Read a record of the ring buffer; None if it has another size."""
        if len(record) < _EVENT.size:
            return None
        source, _, remote, length, head = _EVENT.unpack(record[: _EVENT.size])
        return cls(source, unpack_address(remote.removeprefix(_MAPPED)), length, head)


@dataclass(frozen=True, slots=True)
class Container:
    """Where a container of this host is: the number of the host's end, 0 for the bridge itself.

    `is_elsewhere`: the other end is in another network namespace.
    """

    port: int
    is_elsewhere: bool

    def pack(self) -> bytes:
        """Give the map's value."""
        return _CONTAINER.pack(self.port, self.is_elsewhere)

    @classmethod
    def unpack(cls, value: bytes) -> "Container":
        """Read the map's value."""
        port, flags = _CONTAINER.unpack(value)
        return cls(port, bool(flags))


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An address that may send VXLAN to us: our address it sends to, and its short id."""

    local: str
    short_id: int

    def pack(self) -> bytes:
        """Give the value of the map of its version of IP."""
        return (_NEIGHBOUR6 if is_ipv6(self.local) else _NEIGHBOUR).pack(pack_address(self.local), self.short_id, 0)

    @classmethod
    def unpack(cls, value: bytes) -> "Neighbour":
        """Read the value of either map."""
        local, short_id, _ = (_NEIGHBOUR if len(value) == _NEIGHBOUR.size else _NEIGHBOUR6).unpack(value)
        return cls(unpack_address(local), short_id)


def pack_address(ip: str) -> bytes:
    """Give an address as 4 or 16 bytes in network order."""
    return socket.inet_pton(socket.AF_INET6 if is_ipv6(ip) else socket.AF_INET, ip)


def unpack_address(octets: bytes) -> str:
    """Read it."""
    return socket.inet_ntop(socket.AF_INET if len(octets) == len(_NONE) else socket.AF_INET6, octets)


def mac_key(octets: bytes) -> bytes:
    """Give the key of a MAC address."""
    return octets + b"\0\0"


def unpack_mac(key: bytes) -> bytes:
    """Read it."""
    return key[:6]


def unpack_id(key: bytes) -> int:
    """Read a short id, as key or value."""
    return int(ID.unpack(key)[0])


def unpack_learned(value: bytes) -> tuple[float, int | None]:
    """Give when a MAC was last seen (seconds, CLOCK_MONOTONIC) and the short id of its peer, None for this host."""
    seen, peer, kind, _ = _LEARNED.unpack(value)
    return seen / 1e9, peer if kind == 2 else None


def total_count(values: list[bytes]) -> int:
    """Add a counter over all CPUs."""
    return sum(_COUNT.unpack(value)[0] for value in values)
