"""What sleeve must know of an Ethernet frame: special or not, IPv4 or not, may it be fragmented.

Reads headers only and never past the frame's end. It does not look into VLAN tags, IPv6 extension headers or
LLC: those frames are "not IPv4" on purpose (spec: sleeve, section 8).
"""

from enum import IntEnum

HEADER_BYTES = 14
IPV4_MIN_HEADER_BYTES = 20
SPECIAL_PREFIX = bytes(HEADER_BYTES)
"""Both MAC addresses and the length field zero: 14 zero bytes make a frame special, whatever follows."""

ZERO_MAC = bytes(6)
BROADCAST_MAC = b"\xff" * 6
STP_MAC = bytes.fromhex("0180c2000000")
"""Destination of spanning tree frames, which never leave their bridge."""

ETHERTYPE_IPV4 = b"\x08\x00"
ETHERTYPE_IPV6 = b"\x86\xdd"

_IPV4_AT = HEADER_BYTES
_FLAGS_AT = HEADER_BYTES + 6
_DF_BIT = 0x40


class FrameKind(IntEnum):
    """What decides how a frame travels."""

    TOO_SHORT = 0
    SPECIAL = 1
    NOT_IPV4 = 2
    IPV4 = 3
    IPV4_DF = 4


def classify(frame: bytes) -> FrameKind:
    """Tell the kind of a frame; IPv4 only when it lies directly on Ethernet with a complete header."""
    if len(frame) < HEADER_BYTES:
        return FrameKind.TOO_SHORT
    if frame[:HEADER_BYTES] == SPECIAL_PREFIX:
        return FrameKind.SPECIAL
    if not ipv4_header_bytes(frame):
        return FrameKind.NOT_IPV4
    return FrameKind.IPV4_DF if frame[_FLAGS_AT] & _DF_BIT else FrameKind.IPV4


def ipv4_header_bytes(frame: bytes) -> int:
    """Give the length of the IPv4 header with options, or 0 if the frame holds no complete IPv4 header."""
    if frame[12:14] != ETHERTYPE_IPV4 or len(frame) < HEADER_BYTES + IPV4_MIN_HEADER_BYTES:
        return 0
    first = frame[_IPV4_AT]
    if first == 0x45:
        length = IPV4_MIN_HEADER_BYTES
    else:
        length = (first & 0x0F) * 4
        if first >> 4 != 4 or length < IPV4_MIN_HEADER_BYTES or len(frame) < HEADER_BYTES + length:
            return 0
    total = frame[_IPV4_AT + 2] << 8 | frame[_IPV4_AT + 3]
    return length if total >= length else 0


def is_special(frame: bytes) -> bool:
    """Say whether a frame is a message between sleeve neighbours instead of traffic."""
    return frame[:HEADER_BYTES] == SPECIAL_PREFIX


def octets(mac: str) -> bytes:
    """Give the six bytes of a MAC address as people write it."""
    return bytes.fromhex(mac.replace(":", ""))


def is_unicast_mac(mac: bytes) -> bool:
    """Say whether a MAC address can be a sender's: neither a group address nor zero (as Linux bridges demand)."""
    return not mac[0] & 1 and mac != ZERO_MAC


def internet_checksum(data: bytes) -> int:
    """Give the ones' complement sum of RFC 1071 over `data`, padded with a zero byte if odd."""
    if len(data) % 2:
        data += b"\x00"
    total = int.from_bytes(data, "big") % 0xFFFF
    # The sum of 16-bit words modulo 0xffff is the number itself modulo 0xffff, since 2**16 = 1 there. A non-zero
    # sum congruent to 0 is 0xffff in ones' complement, whose complement is 0.
    return 0xFFFF - total if total or not any(data) else 0
