"""The two 802.1ad tags by which the kernel's datapath says whom a frame is from and for (fastdp/bpf/fastdp.bpf.c).

The outer tag has the short id of the source peer, the inner one that of the destination. Nobody else can put two such
tags before a frame that comes to the pump: `to_tap` drops them.
"""

from struct import Struct

from plait.overlay.sleeve.plait1.wire import VNET_BYTES

_TAGS = Struct(">HHHH")
_PROTOCOL = 0x88A8
_SHORT_ID = 0x0FFF
_AT = VNET_BYTES + 12
"""Behind the virtio-net header and both MAC addresses."""

_BYTES = _TAGS.size
_VNET = Struct("=BBHHHH")
"""struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset."""


def labels(raw: bytes | memoryview) -> tuple[int, int] | None:
    """Give the short ids of source and destination before a frame behind its virtio-net header; None without tags."""
    if len(raw) < _AT + _BYTES:
        return None
    outer, source, inner, destination = _TAGS.unpack_from(raw, _AT)
    if outer != _PROTOCOL or inner != _PROTOCOL:
        return None
    return source & _SHORT_ID, destination & _SHORT_ID


def without_labels(raw: bytes) -> bytes:
    """Give a single frame without its tags."""
    return _shorter(raw[:VNET_BYTES]) + raw[VNET_BYTES:_AT] + raw[_AT + _BYTES :]


def strip_labels(raw: memoryview) -> memoryview:
    """The same for a super-frame, in its own memory: what is in front of the tags moves up to what is behind them."""
    raw[_BYTES : _AT + _BYTES] = _shorter(bytes(raw[:VNET_BYTES])) + bytes(raw[VNET_BYTES:_AT])
    return raw[_BYTES:]


def _shorter(header: bytes) -> bytes:
    flags, kind, length, size, start, offset = _VNET.unpack(header)
    return _VNET.pack(flags, kind, max(length - _BYTES, 0), size, max(start - _BYTES, 0), offset)
