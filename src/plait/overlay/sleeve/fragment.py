"""Fragmentation of the container's own IPv4 packet, for paths that lose fragments of the outer one.

Only for packets without DF; reassembly is the receiving container's (spec: sleeve, section 8).
"""

from struct import Struct

from plait.overlay.ethernet import HEADER_BYTES, internet_checksum, ipv4_header_bytes

_MORE = 0x2000
_FLAGS = 0xE000
_OFFSET = 0x1FFF
_U16 = Struct(">H")
_LENGTH_AT = HEADER_BYTES + 2
_FLAGS_AT = HEADER_BYTES + 6
_CHECKSUM_AT = HEADER_BYTES + 10


def fragment_ipv4(frame: bytes, mtu: int) -> list[bytes]:
    """Cut a frame's IPv4 packet into frames whose packets have at most `mtu` bytes.

    Gives an empty list for what cannot be cut: no IPv4, less than the header says, no room for 8 bytes, or a
    packet whose last byte would lie beyond what the offset field can name.
    """
    header_bytes = ipv4_header_bytes(frame)
    if not header_bytes:
        return []
    (total,) = _U16.unpack_from(frame, _LENGTH_AT)
    (flags_offset,) = _U16.unpack_from(frame, _FLAGS_AT)
    start, end = HEADER_BYTES + header_bytes, HEADER_BYTES + total
    step = (mtu - header_bytes) & ~7
    first = flags_offset & _OFFSET
    if end > len(frame) or step < 8 or first * 8 + end - start > 0xFFFF:
        return []
    header = bytearray(frame[:start])
    pieces = []
    for at in range(start, end, step):
        piece = frame[at : min(at + step, end)]
        is_last = at + step >= end
        flags = flags_offset & _FLAGS | (0 if is_last else _MORE)
        _rewrite(header, len(piece), flags | first + (at - start) // 8)
        pieces.append(bytes(header) + piece)
    return pieces


def _rewrite(header: bytearray, piece_bytes: int, flags_offset: int) -> None:
    _U16.pack_into(header, _LENGTH_AT, len(header) - HEADER_BYTES + piece_bytes)
    _U16.pack_into(header, _FLAGS_AT, flags_offset)
    _U16.pack_into(header, _CHECKSUM_AT, 0)
    _U16.pack_into(header, _CHECKSUM_AT, internet_checksum(bytes(header[HEADER_BYTES:])))
