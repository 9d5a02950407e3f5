"""Joins single UDP packets of one flow that came together to one super-frame: the tap takes one write instead of many.

Only packets whose checksum is not finished (the receiving kernel would believe it) and whose headers are alike: no
packet is changed that way but for the IPv4 identification, which counts up and means nothing without fragments.
"""

from struct import Struct

from plait.overlay.sleeve.plait1.engine import Buffer
from plait.overlay.sleeve.plait1.superframe import GSO_UDP_L4, NEEDS_CSUM, VNET

MAX_PACKETS = 64
"""Of one super-frame: more, and kernels before 6.9 refuse it (UDP_MAX_SEGMENTS)."""

MAX_BYTES = 60000

# Offsets into `raw` of an IPv4 packet without options or VLAN tag, and its UDP header.
_IP = 24
_ID, _FRAGMENT, _CHECKSUM, _ADDRESSES = _IP + 4, _IP + 6, _IP + 10, _IP + 12
_UDP = _IP + 20
_LENGTH, _UDP_CHECKSUM, _PAYLOAD = _UDP + 4, _UDP + 6, _UDP + 8
_ALIKE = VNET.pack(NEEDS_CSUM, 0, 0, 0, _UDP - VNET.size, 6)
"""The virtio-net header of such a packet."""

_ETHER_TYPE_AND_FIRST = b"\x08\x00\x45"
_DF = 0x40
_UDP_PROTOCOL = 17
_LEAST = _PAYLOAD + 1
_U16 = Struct(">H")


def merge_udp(frames: list[list[Buffer]]) -> list[list[Buffer]]:
    """Give the same packets with neighbours joined where they can be."""
    merged: list[list[Buffer]] = []
    at = 0
    while at < len(frames):
        first = frames[at]
        count = _alike(frames, at) if len(first) == 1 and bytes(first[0][:10]) == _ALIKE else 1
        if count > 1:
            merged.append(_joined([bytes(pieces[0]) for pieces in frames[at : at + count]]))
        else:
            merged.append(first)
        at += count
    return merged


def _alike(frames: list[list[Buffer]], at: int) -> int:
    """Count the packets from `at` on that can be joined."""
    first = bytes(frames[at][0])
    size = len(first)
    is_udp = first[_IP - 2 : _IP + 1] == _ETHER_TYPE_AND_FIRST and first[_IP + 9 : _IP + 10] == b"\x11"
    if not is_udp or size < _LEAST or first[_FRAGMENT] & ~_DF or first[_FRAGMENT + 1]:
        return 1
    if size != _IP + _U16.unpack_from(first, _IP + 2)[0] or size - _UDP != _U16.unpack_from(first, _LENGTH)[0]:
        return 1
    head, middle, rest = first[:_ID], first[_FRAGMENT:_CHECKSUM], first[_ADDRESSES:_PAYLOAD]
    most = min(MAX_PACKETS, MAX_BYTES // (size - _PAYLOAD), len(frames) - at)
    for number in range(1, most):
        pieces = frames[at + number]
        raw = pieces[0]
        if len(pieces) != 1 or len(raw) != size or not isinstance(raw, bytes) or not raw.startswith(head):
            return number
        if raw[_FRAGMENT:_CHECKSUM] != middle or raw[_ADDRESSES:_PAYLOAD] != rest:
            return number
    return max(most, 1)


def _joined(packets: list[bytes]) -> list[Buffer]:
    first = packets[0]
    payload = len(first) - _PAYLOAD
    head = bytearray(first[:_PAYLOAD])
    VNET.pack_into(head, 0, NEEDS_CSUM, GSO_UDP_L4, _PAYLOAD - VNET.size, payload, _UDP - VNET.size, 6)
    more = (len(packets) - 1) * payload
    _add(head, _IP + 2, more)
    _add(head, _LENGTH, more)
    _add(head, _UDP_CHECKSUM, more)
    # RFC 1624: the header checksum goes down by what the length went up.
    (checksum,) = _U16.unpack_from(head, _CHECKSUM)
    total = (checksum ^ 0xFFFF) + more
    total = (total & 0xFFFF) + (total >> 16)
    _U16.pack_into(head, _CHECKSUM, total ^ 0xFFFF)
    return [b"".join([bytes(head), *(packet[_PAYLOAD:] for packet in packets)])]


def _add(head: bytearray, at: int, amount: int) -> None:
    """Add to a 16-bit field, with the carry of ones' complement."""
    total = _U16.unpack_from(head, at)[0] + amount
    _U16.pack_into(head, at, (total & 0xFFFF) + (total >> 16))
