"""Super-frames: TCP or UDP packets not cut yet, behind a virtio-net header (docs/protocol/sleeve2.md, 2 and 4).

Reads and rewrites headers; payload is never touched. `raw` is a virtio-net header and the frame, as a tap has it.
"""

from struct import Struct
from typing import NamedTuple

from plait.overlay.ethernet import internet_checksum
from plait.overlay.sleeve.plait1.wire import ETHERNET_BYTES, VNET_BYTES

VNET = Struct("<BBHHHH")
NEEDS_CSUM = 1
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 0, 1, 4, 5, 0x80
MAX_BLOB_BYTES = 255 - 16
"""The blob's length is one byte, and a tag may follow it."""

MIN_RAW_BYTES = VNET_BYTES + ETHERNET_BYTES
PLAIN_VNET = bytes(VNET_BYTES)

_U16 = Struct(">H")
_U32 = Struct(">I")
_VLAN_TYPES = (b"\x81\x00", b"\x88\xa8")
_VLAN_BYTES = 4
_MAX_VLANS = 2
_IPV4, _IPV6 = b"\x08\x00", b"\x86\xdd"
_IPV4_MIN, _IPV6_BYTES = 20, 40
_TCP_MIN, _UDP_BYTES = 20, 8
_TCP_CHECKSUM, _UDP_CHECKSUM = 16, 6
_TCP, _UDP = 6, 17
_FIN_PSH, _CWR = 0x09, 0x80


class Layout(NamedTuple):
    """Where the headers of a super-frame are; offsets count from the start of `raw`."""

    ip: int
    is_ipv6: bool
    l4: int
    payload: int
    is_tcp: bool
    gso_size: int


def layout(raw: bytes | bytearray | memoryview) -> Layout | None:
    """Read the headers of a super-frame; None if they break the rules, so that no kernel is asked to believe them."""
    if len(raw) < VNET_BYTES + ETHERNET_BYTES + _IPV4_MIN + _UDP_BYTES:
        return None
    flags, gso, _, gso_size, csum_start, csum_offset = VNET.unpack_from(raw)
    kind = gso & ~GSO_ECN
    is_tcp = kind in (GSO_TCPV4, GSO_TCPV6)
    if flags != NEEDS_CSUM or gso_size == 0 or not (is_tcp or gso == GSO_UDP_L4):
        return None
    ip, ether_type = _ip_start(raw)
    is_ipv6 = ether_type == _IPV6
    if (not is_ipv6 and ether_type != _IPV4) or (is_tcp and is_ipv6 is not (kind == GSO_TCPV6)):
        return None
    l4 = VNET_BYTES + csum_start
    if csum_offset != (_TCP_CHECKSUM if is_tcp else _UDP_CHECKSUM) or l4 + (_TCP_MIN if is_tcp else _UDP_BYTES) > len(
        raw
    ):
        return None
    if not (_is_ipv6_before(raw, ip, l4) if is_ipv6 else _is_ipv4_before(raw, ip, l4, _TCP if is_tcp else _UDP)):
        return None
    payload = l4 + ((raw[l4 + 12] >> 4) * 4 if is_tcp else _UDP_BYTES)
    if payload - l4 < (_TCP_MIN if is_tcp else _UDP_BYTES) or payload >= len(raw):
        return None
    return Layout(ip, is_ipv6, l4, payload, is_tcp, gso_size)


def is_sound(raw: bytes | bytearray | memoryview) -> bool:
    """Say whether a frame of a peer may be given to the kernel as it is."""
    if len(raw) < MIN_RAW_BYTES:
        return False
    flags, gso, hdr_len, gso_size, csum_start, csum_offset = VNET.unpack_from(raw)
    if gso:
        return layout(raw) is not None
    if gso_size or hdr_len:
        return False
    if flags == 0:
        return not (csum_start or csum_offset)
    checksum_end = VNET_BYTES + int(csum_start) + int(csum_offset) + 2
    return flags == NEEDS_CSUM and csum_start >= ETHERNET_BYTES and checksum_end <= len(raw)


def cleaned(vnet: bytes | memoryview, header_bytes: int) -> bytes:
    """Give a virtio-net header as it stands on the wire, from one of the kernel's.

    `header_bytes`: Ethernet to TCP or UDP of a super-frame. A checksum that was verified needs no mention.
    """
    flags, gso, _, gso_size, csum_start, csum_offset = VNET.unpack_from(vnet)
    if not flags & NEEDS_CSUM:
        return PLAIN_VNET
    if not gso:
        return VNET.pack(NEEDS_CSUM, GSO_NONE, 0, 0, csum_start, csum_offset)
    return VNET.pack(NEEDS_CSUM, gso, header_bytes, gso_size, csum_start, csum_offset)


def as_super_frame(raw: bytes) -> bytes | None:
    """Give a single TCP packet whose checksum is not finished as a super-frame, to be sliced; None for others."""
    if len(raw) < MIN_RAW_BYTES:
        return None
    flags, gso, _, _, csum_start, csum_offset = VNET.unpack_from(raw)
    if flags != NEEDS_CSUM or gso or csum_offset != _TCP_CHECKSUM:
        return None
    kind = GSO_TCPV6 if _ip_start(raw)[1] == _IPV6 else GSO_TCPV4
    trial = VNET.pack(NEEDS_CSUM, kind, 0, 0xFFFF, csum_start, csum_offset) + raw[VNET_BYTES:]
    where = layout(trial)
    if where is None:
        return None
    size = len(raw) - where.payload
    return VNET.pack(NEEDS_CSUM, kind, where.payload - VNET_BYTES, size, csum_start, csum_offset) + raw[VNET_BYTES:]


def part(blob: bytes, where: Layout, at: int, payload_bytes: int, is_last: bool) -> bytes:
    """Give the headers of a part of a super-frame: `payload_bytes` from payload offset `at` on."""
    head = bytearray(blob)
    length = len(blob) - where.l4 + payload_bytes
    old_length = _set_ip_length(head, where, length, at)
    checksum_at = where.l4 + (_TCP_CHECKSUM if where.is_tcp else _UDP_CHECKSUM)
    if where.is_tcp:
        (sequence,) = _U32.unpack_from(head, where.l4 + 4)
        _U32.pack_into(head, where.l4 + 4, (sequence + at) & 0xFFFFFFFF)
        head[where.l4 + 13] &= 0xFF & ~((0 if is_last else _FIN_PSH) | (_CWR if at else 0))
    else:
        _U16.pack_into(head, where.l4 + 4, length & 0xFFFF)
    (pseudo,) = _U16.unpack_from(head, checksum_at)
    _U16.pack_into(head, checksum_at, _fold(pseudo + length - old_length))
    if payload_bytes <= where.gso_size:
        head[1:6] = bytes(5)
    return bytes(head)


def _set_ip_length(head: bytearray, where: Layout, length: int, at: int) -> int:
    """Write the lengths of IP for `length` bytes from the TCP or UDP header on; gives what they were before."""
    ip = where.ip
    if where.is_ipv6:
        before = where.l4 - ip - _IPV6_BYTES
        (old,) = _U16.unpack_from(head, ip + 4)
        _U16.pack_into(head, ip + 4, (before + length) & 0xFFFF)
        return int(old) - before
    (old,) = _U16.unpack_from(head, ip + 2)
    (identification,) = _U16.unpack_from(head, ip + 4)
    _U16.pack_into(head, ip + 2, (where.l4 - ip + length) & 0xFFFF)
    _U16.pack_into(head, ip + 4, (identification + at // where.gso_size) & 0xFFFF)
    _U16.pack_into(head, ip + 10, 0)
    _U16.pack_into(head, ip + 10, internet_checksum(bytes(head[ip : where.l4])))
    return int(old) - (where.l4 - ip)


def _fold(value: int) -> int:
    """Give a sum of 16-bit words, maybe less a word, in ones' complement."""
    value %= 0xFFFF
    return value or 0xFFFF


def _ip_start(raw: bytes | bytearray | memoryview) -> tuple[int, bytes]:
    at = VNET_BYTES + ETHERNET_BYTES
    ether_type = bytes(raw[at - 2 : at])
    for _ in range(_MAX_VLANS):
        if ether_type not in _VLAN_TYPES:
            break
        at += _VLAN_BYTES
        ether_type = bytes(raw[at - 2 : at])
    return at, ether_type


def _is_ipv4_before(raw: bytes | bytearray | memoryview, ip: int, l4: int, protocol: int) -> bool:
    return ip + _IPV4_MIN <= l4 and raw[ip] >> 4 == 4 and (raw[ip] & 15) * 4 == l4 - ip and raw[ip + 9] == protocol


def _is_ipv6_before(raw: bytes | bytearray | memoryview, ip: int, l4: int) -> bool:
    return ip + _IPV6_BYTES <= l4 and raw[ip] >> 4 == 6
