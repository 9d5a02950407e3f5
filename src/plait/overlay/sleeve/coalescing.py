"""Joining TCP segments that continue each other into super-frames, so that a tap takes one write for many frames.

What may be joined is what cutting the super-frame gives back, as in the kernel's GRO. Checksums are verified before;
whatever is not sound TCP right behind an untagged IP header passes unchanged, for the receiver to judge.
"""

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple

from plait.overlay.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6, HEADER_BYTES
from plait.overlay.sleeve.checksum import word_sum
from plait.overlay.sleeve.plait1.superframe import GSO_TCPV4, GSO_TCPV6, NEEDS_CSUM, PLAIN_VNET, VNET

_U16 = Struct(">H")
_TCP_FIELDS = Struct(">I4sBB2s")
"""From the sequence on: sequence, acknowledgement, data offset, flags, window; checksum and urgent pointer follow."""

_IP = HEADER_BYTES
_IPV4_BYTES, _IPV6_BYTES, _TCP_MIN_BYTES = 20, 40, 20
_TCP = 6
_PLAIN_IPV4 = 0x45
_CHECKSUM = 16
_DF = 0x40
_MAX_IP_LENGTH = 0xFFFF
_FIN_PSH, _ECE, _ACK = 0x09, 0x40, 0x10


def coalesce(frames: Sequence[bytes]) -> list[bytes]:
    """Give the frames of one burst as a tap takes them, behind virtio-net headers, joined where that is possible.

    The order within a flow stays. Frames of other flows may stand between those that are joined, but nothing is moved
    across a frame that is no sound TCP segment.
    """
    out: list[_Run | bytes] = []
    open_runs: dict[bytes, _Run] = {}
    for frame in frames:
        segment = _read(frame)
        if segment is None:
            open_runs.clear()
            out.append(frame)
            continue
        run = open_runs.get(segment.flow)
        if run is None or not run.add(segment):
            run = open_runs[segment.flow] = _Run(segment)
            out.append(run)
    return [PLAIN_VNET + item if isinstance(item, bytes) else item.raw() for item in out]


class _Segment(NamedTuple):
    """A TCP segment with right checksums."""

    frame: bytes
    l4: int
    payload: int
    flow: bytes
    """Ethernet header, addresses, ports."""
    same: bytes
    """What has to be the same in all frames of a run."""
    identification: int
    """Of IPv4 without DF; with DF or IPv6 it says nothing (RFC 6864) and is -1."""
    sequence: int
    flags: int


class _Run:
    """Segments of which each continues the one before."""

    __slots__ = ("_first", "_flags", "_next", "_next_identification", "_payloads", "_room", "_size")

    def __init__(self, segment: _Segment) -> None:
        self._first = segment
        self._payloads = [segment.frame]
        self._flags = segment.flags
        self._size = size = len(segment.frame) - segment.payload
        self._room = _MAX_IP_LENGTH - (len(segment.frame) - _IP)
        # Only data with nothing but an acknowledgement continues: the kernel's GRO, too, leaves SYN, URG, CWR alone.
        is_open = size and segment.flags & ~_ECE == _ACK
        self._next = (segment.sequence + size) & 0xFFFFFFFF if is_open else -1
        self._next_identification = _after(segment.identification)

    def add(self, segment: _Segment) -> bool:
        """Take a segment that continues the run; False if it does not."""
        frame, _, payload, _, same, identification, sequence, flags = segment
        size = len(frame) - payload
        if (
            sequence != self._next
            or same != self._first.same
            or (flags ^ self._flags) & ~_FIN_PSH
            or not 0 < size <= min(self._size, self._room)
            or identification != self._next_identification
        ):
            return False
        self._payloads.append(frame[payload:])
        self._flags = flags
        self._room -= size
        is_open = size == self._size and not flags & _FIN_PSH
        self._next = (sequence + size) & 0xFFFFFFFF if is_open else -1
        self._next_identification = _after(identification)
        return True

    def raw(self) -> bytes:
        """Give the frame, or the super-frame, behind its virtio-net header."""
        frame, l4, payload = self._first.frame, self._first.l4, self._first.payload
        if len(self._payloads) == 1:
            return PLAIN_VNET + frame
        is_ipv6 = l4 != _IP + _IPV4_BYTES
        head = bytearray(frame[:payload])
        length = payload + sum(map(len, self._payloads)) - len(frame) + self._size - _IP
        if is_ipv6:
            _U16.pack_into(head, _IP + 4, length - _IPV6_BYTES)
            addresses = head[_IP + 8 : l4]
        else:
            _U16.pack_into(head, _IP + 2, length)
            head[_IP + 10 : _IP + 12] = bytes(2)
            _U16.pack_into(head, _IP + 10, -word_sum(head[_IP:l4]) % 0xFFFF)
            addresses = head[_IP + 12 : l4]
        head[l4 + 13] = self._flags
        _U16.pack_into(head, l4 + _CHECKSUM, (word_sum(addresses) + _TCP + length - (l4 - _IP)) % 0xFFFF or 0xFFFF)
        vnet = VNET.pack(NEEDS_CSUM, GSO_TCPV6 if is_ipv6 else GSO_TCPV4, payload, self._size, l4, _CHECKSUM)
        self._payloads[0] = frame[payload:]
        return b"".join((vnet, head, *self._payloads))


def _after(identification: int) -> int:
    return identification if identification < 0 else (identification + 1) & 0xFFFF


def _read(frame: bytes) -> _Segment | None:
    """Give the TCP segment in a frame; None if it is something else or its checksums are wrong."""
    ether_type = frame[12:14]
    if ether_type == ETHERTYPE_IPV4:
        l4, addresses = _IP + _IPV4_BYTES, _IP + 12
        if len(frame) < l4 + _TCP_MIN_BYTES or not _is_sound_ipv4(frame):
            return None
        identification = -1 if frame[_IP + 6] & _DF else frame[_IP + 4] << 8 | frame[_IP + 5]
        same_ip = frame[_IP : _IP + 2] + frame[_IP + 6 : _IP + 9]
    elif ether_type == ETHERTYPE_IPV6:
        l4, addresses = _IP + _IPV6_BYTES, _IP + 8
        if len(frame) < l4 + _TCP_MIN_BYTES or not _is_sound_ipv6(frame):
            return None
        identification = -1
        same_ip = frame[_IP : _IP + 4] + frame[_IP + 7 : _IP + 8]
    else:
        return None
    sequence, acknowledgement, offset, flags, window = _TCP_FIELDS.unpack_from(frame, l4 + 4)
    payload = l4 + (offset >> 4) * 4
    if not l4 + _TCP_MIN_BYTES <= payload <= len(frame):
        return None
    if (word_sum(frame[addresses:]) + _TCP + len(frame) - l4) % 0xFFFF:
        return None
    flow = frame[:_IP] + frame[addresses : l4 + 4]
    same = b"%b%b%c%b%b" % (same_ip, acknowledgement, offset, window, frame[l4 + 18 : payload])
    return _Segment(frame, l4, payload, flow, same, identification, sequence, flags)


def _is_sound_ipv4(frame: bytes) -> bool:
    """Say whether an IPv4 header without options holds TCP to the frame's end, is no fragment's, and is intact."""
    return (
        frame[_IP] == _PLAIN_IPV4
        and frame[_IP + 9] == _TCP
        and frame[_IP + 2] << 8 | frame[_IP + 3] == len(frame) - _IP
        and not frame[_IP + 6] & ~_DF
        and not frame[_IP + 7]
        and not word_sum(frame[_IP : _IP + _IPV4_BYTES])
    )


def _is_sound_ipv6(frame: bytes) -> bool:
    """Say whether an IPv6 header holds TCP to the frame's end, right behind it."""
    return (
        frame[_IP] >> 4 == 6
        and frame[_IP + 6] == _TCP
        and frame[_IP + 4] << 8 | frame[_IP + 5] == len(frame) - _IP - _IPV6_BYTES
    )
