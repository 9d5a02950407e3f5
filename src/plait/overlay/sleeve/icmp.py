"""Answers to frames that are too big for a link: ICMP "fragmentation needed" and ICMPv6 "packet too big".

The answer pretends to come from the far container, as if a router before it had spoken. It is a whole Ethernet
frame. How often to answer is the caller's business (token_bucket.py).
"""

from struct import Struct

from plait.overlay.ethernet import (
    ETHERTYPE_IPV4,
    ETHERTYPE_IPV6,
    HEADER_BYTES,
    internet_checksum,
    ipv4_header_bytes,
)

IPV6_HEADER_BYTES = 40
IPV6_MIN_MTU = 1280
"""RFC 8200: every IPv6 link carries packets of this size; smaller values in an answer are ignored by senders."""

_IPV4_HEADER = Struct(">BBHHHBBH4s4s")
_ICMP_HEADER = Struct(">BBHHH")
_ICMPV6_HEADER = Struct(">BBHI")
_IPV6_HEADER = Struct(">IHBB16s16s")
_QUOTED_IPV4_DATA_BYTES = 8
_QUOTED_IPV6_BYTES = IPV6_MIN_MTU - IPV6_HEADER_BYTES - _ICMPV6_HEADER.size
_PROTOCOL_ICMP = 1
_PROTOCOL_ICMPV6 = 58
_TTL = 64
_ICMP_ERRORS = frozenset((3, 4, 5, 11, 12))


def too_big_answer(frame: bytes, mtu: int) -> bytes | None:
    """Make the answer to a frame that does not fit an overlay MTU of `mtu` bytes.

    None if there must be no answer (RFC 1122 3.2.2, RFC 4443 2.4): to errors, to later fragments, to or about
    addresses that are not one host's, and to what is neither IPv4 nor IPv6.
    """
    if frame[12:14] == ETHERTYPE_IPV4:
        return _fragmentation_needed(frame, mtu)
    if frame[12:14] == ETHERTYPE_IPV6:
        return _packet_too_big(frame, mtu)
    return None


def is_ipv6(frame: bytes) -> bool:
    """Say whether a complete IPv6 header lies directly on Ethernet."""
    return frame[12:14] == ETHERTYPE_IPV6 and len(frame) >= HEADER_BYTES + IPV6_HEADER_BYTES and frame[14] >> 4 == 6


def _fragmentation_needed(frame: bytes, mtu: int) -> bytes | None:
    header_bytes = ipv4_header_bytes(frame)
    if not header_bytes or not _is_answerable_ipv4(frame, header_bytes):
        return None
    packet = frame[HEADER_BYTES:]
    body = packet[: header_bytes + _QUOTED_IPV4_DATA_BYTES]
    checksum = internet_checksum(_ICMP_HEADER.pack(3, 4, 0, 0, min(mtu, 0xFFFF)) + body)
    icmp = _ICMP_HEADER.pack(3, 4, checksum, 0, min(mtu, 0xFFFF)) + body
    total = _IPV4_HEADER.size + len(icmp)
    fields = (0x45, packet[1], total, 0, 0, _TTL, _PROTOCOL_ICMP)
    source, destination = packet[16:20], packet[12:16]
    checksum = internet_checksum(_IPV4_HEADER.pack(*fields, 0, source, destination))
    return _ethernet_back(frame) + _IPV4_HEADER.pack(*fields, checksum, source, destination) + icmp


def _is_answerable_ipv4(frame: bytes, header_bytes: int) -> bool:
    packet = frame[HEADER_BYTES:]
    is_later_fragment = (packet[6] & 0x1F) or packet[7]
    icmp_type = packet[header_bytes : header_bytes + 1]
    is_icmp_error = packet[9] == _PROTOCOL_ICMP and bool(icmp_type) and icmp_type[0] in _ICMP_ERRORS
    is_between_hosts = not frame[0] & 1 and 0 < packet[12] < 224 and packet[16] < 224
    return is_between_hosts and not is_later_fragment and not is_icmp_error


def _packet_too_big(frame: bytes, mtu: int) -> bytes | None:
    if not is_ipv6(frame):
        return None
    packet = frame[HEADER_BYTES:]
    source, destination = packet[24:40], packet[8:24]
    # No look for ICMPv6 errors: they have at most 1280 bytes and fit every link.
    if frame[0] & 1 or source[0] == 0xFF or destination[0] == 0xFF or not any(destination):
        return None
    end = IPV6_HEADER_BYTES + int.from_bytes(packet[4:6], "big")
    quoted = packet[: min(end, _QUOTED_IPV6_BYTES)]
    size = max(mtu, IPV6_MIN_MTU)
    length = _ICMPV6_HEADER.size + len(quoted)
    pseudo_header = source + destination + length.to_bytes(4, "big") + _PROTOCOL_ICMPV6.to_bytes(4, "big")
    checksum = internet_checksum(pseudo_header + _ICMPV6_HEADER.pack(2, 0, 0, size) + quoted)
    header = _IPV6_HEADER.pack(6 << 28, length, _PROTOCOL_ICMPV6, _TTL, source, destination)
    return _ethernet_back(frame) + header + _ICMPV6_HEADER.pack(2, 0, checksum, size) + quoted


def _ethernet_back(frame: bytes) -> bytes:
    return frame[6:12] + frame[:6] + frame[12:14]
