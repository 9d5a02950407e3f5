"""The clear part of a plait1 datagram, probes and acknowledgements (docs/protocol/sleeve2.md, sections 2 and 6)."""

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from plait.mesh.name import NAME_BYTES
from plait.overlay.outer import IPV6_EXTRA_BYTES, ip_udp_bytes

VERSION = 1
ENCRYPTED = 0x01
RELAYED = 0x02
HEADER = Struct(">6sBBQ")
HEADER_BYTES = HEADER.size
RELAY_BYTES = 2 * NAME_BYTES
TAG_BYTES = 16
SEQUENCE_LIMIT = 1 << 64

RECORD_LENGTH = Struct(">H")
SEGMENT_FIELDS = Struct(">HB")
"""Slice and blob length, between the clear header and the blob."""

UID_BYTES = 8
PROBE_BODY_BYTES = 26
"""The least: no larger than its acknowledgement, so that nobody is amplified."""

IP_UDP_BYTES = ip_udp_bytes(is_ipv6=False)
"""With which datagrams say sizes of IP packets, also over IPv6, where they are 20 bytes longer."""

VNET_BYTES = 10
ETHERNET_BYTES = 14
MTU_OVERHEAD_BYTES = IP_UDP_BYTES + HEADER_BYTES + SEGMENT_FIELDS.size + VNET_BYTES + ETHERNET_BYTES + 1
"""Between the path's MTU and that of containers: 72 bytes, with which a full segment just fits."""

ENCRYPTED_MTU_OVERHEAD_BYTES = MTU_OVERHEAD_BYTES + 2 * TAG_BYTES

_ACK = Struct(">QQHQ")


class Kind(IntEnum):
    """The type of a datagram."""

    RECORDS = 1
    SEGMENT = 2
    PROBE = 3
    ACK = 4


KINDS = {VERSION << 4 | kind: kind for kind in Kind}
"""By the byte that holds version and type."""


class Ack(NamedTuple):
    """What an acknowledgement says: which probe came with which size (IP packet), and how many data datagrams ever."""

    uid: int
    sequence: int
    size: int
    received: int


def mtu_overhead(encrypted: bool, *, is_ipv6: bool = False) -> int:
    """Give the difference between the path's MTU and the overlay's: 72 bytes plain, 104 encrypted, 20 more by IPv6."""
    overhead = ENCRYPTED_MTU_OVERHEAD_BYTES if encrypted else MTU_OVERHEAD_BYTES
    return overhead + (IPV6_EXTRA_BYTES if is_ipv6 else 0)


def clear_header(sender: bytes, kind: Kind, sequence: int, *, encrypted: bool, relay: bytes = b"") -> bytes:
    """Give the clear header; `relay` is empty, or source and destination."""
    flags = (ENCRYPTED if encrypted else 0) | (RELAYED if relay else 0)
    return HEADER.pack(sender, VERSION << 4 | kind, flags, sequence) + relay


def encode_ack(ack: Ack) -> bytes:
    """Give the body of an acknowledgement."""
    return _ACK.pack(*ack)


def decode_ack(body: bytes) -> Ack | None:
    """Read the body of an acknowledgement; None if it has another length."""
    return Ack(*_ACK.unpack(body)) if len(body) == _ACK.size else None


def encode_probe(uid: int, body_bytes: int) -> bytes:
    """Give the body of a probe: at least PROBE_BODY_BYTES."""
    return uid.to_bytes(UID_BYTES, "big").ljust(max(body_bytes, PROBE_BODY_BYTES), b"\x00")


def decode_probe(body: bytes) -> int | None:
    """Give the connection UID of a probe; None if it is too short."""
    return int.from_bytes(body[:UID_BYTES], "big") if len(body) >= PROBE_BODY_BYTES else None
