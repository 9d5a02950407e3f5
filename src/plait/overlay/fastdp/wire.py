"""The bytes of fastdp: VXLAN's header, and heartbeats with what plait nodes add to them (docs/protocol/fastdp.md)."""

from enum import IntEnum
from struct import Struct
from typing import NamedTuple

from plait.mesh.shortids import SHORT_IDS
from plait.overlay.ethernet import HEADER_BYTES, SPECIAL_PREFIX

FEATURE = "PlaitFastdp"
"""Handshake feature of a node whose heartbeats carry an `Extension`. Weave peers ignore it."""

FEATURE_VALUE = "1"

PORT_OFFSET = 1
"""From the peer's mesh port to its port of VXLAN."""

VXLAN_BYTES = 8
_VNI_GIVEN = 0x08
"""Flag of RFC 7348, section 5."""

UDP_BYTES = 8
IPV4_OVERHEAD_BYTES = 20 + UDP_BYTES + VXLAN_BYTES + HEADER_BYTES
"""Between the IP packet on the path and the IP packet of a container: 50 bytes."""

IPV6_OVERHEAD_BYTES = 40 + UDP_BYTES + VXLAN_BYTES + HEADER_BYTES

UNKNOWN = (1 << 64) - 1
"""A counter that a node does not have."""

_VXLAN = Struct(">B3xI")
_HEARTBEAT = Struct(f">{HEADER_BYTES}sQH")
_EXTENSION = Struct(">4sB3xIIH2xQQ")
_MAGIC = b"PLT1"

LEAST_HEARTBEAT_BYTES = _HEARTBEAT.size
"""24: what Weave takes."""

EXTENDED_HEARTBEAT_BYTES = _HEARTBEAT.size + _EXTENSION.size
"""60: the smallest Ethernet frame anyway."""

_LENGTH_LIMIT = 1 << 16
_SEQUENCE_LIMIT = 1 << 32


class Kind(IntEnum):
    """What a plait node's heartbeat is."""

    PROBE = 0
    ECHO = 1


class Extension(NamedTuple):
    """What a plait node adds: `sequence` of a probe, or of which probe this is the echo and how long that frame was.

    `sent` and `received` count the frames of containers to and from the peer, UNKNOWN if the node cannot tell.
    """

    kind: Kind
    sequence: int = 0
    echoed_sequence: int = 0
    echoed_length: int = 0
    sent: int = UNKNOWN
    received: int = UNKNOWN


class Heartbeat(NamedTuple):
    """A heartbeat as it came: connection UID, length of the frame, and the extension if there is a readable one."""

    uid: int
    length: int
    extension: Extension | None = None


def pack_vni(source: int, destination: int) -> int:
    """Give the VXLAN network identifier of two short ids. Raises ValueError if one has more than 12 bits."""
    if not (0 <= source < SHORT_IDS and 0 <= destination < SHORT_IDS):
        raise ValueError(f"short ids {source} and {destination}: each must be 0 to {SHORT_IDS - 1}")
    return source | destination << 12


def unpack_vni(vni: int) -> tuple[int, int]:
    """Give the short ids of source and destination."""
    return vni & SHORT_IDS - 1, vni >> 12 & SHORT_IDS - 1


def vxlan_header(vni: int) -> bytes:
    """Give the 8 bytes between the UDP header and the frame."""
    return _VXLAN.pack(_VNI_GIVEN, vni << 8)


def overhead(remote_ip: str) -> int:
    """Give the difference between the path's MTU to this address and the overlay's: 50 bytes, 70 with IPv6."""
    return IPV6_OVERHEAD_BYTES if ":" in remote_ip else IPV4_OVERHEAD_BYTES


def heartbeat(uid: int, frame_length: int, extension: Extension | None = None) -> bytes:
    """Give a heartbeat of `frame_length` bytes, filled with zeros. Raises ValueError if that is too few or too many."""
    head = _HEARTBEAT.pack(SPECIAL_PREFIX, uid, frame_length % _LENGTH_LIMIT)
    if extension is not None:
        kind, *fields = extension
        head += _EXTENSION.pack(_MAGIC, kind, *fields)
    if not len(head) <= frame_length < _LENGTH_LIMIT:
        raise ValueError(f"a heartbeat of {frame_length} bytes: must be {len(head)} to {_LENGTH_LIMIT - 1}")
    return head.ljust(frame_length, b"\x00")


def parse_heartbeat(head: bytes, frame_length: int) -> Heartbeat | None:
    """Read a heartbeat by Weave's rule; None if it is none, or says another length than the frame's.

    `head`: the beginning of the frame, EXTENDED_HEARTBEAT_BYTES are enough; what follows the frame's end is not read.
    """
    head = head[:frame_length]
    if len(head) < _HEARTBEAT.size:
        return None
    prefix, uid, length = _HEARTBEAT.unpack_from(head)
    if prefix != SPECIAL_PREFIX or length != frame_length:
        return None
    return Heartbeat(uid, length, _parse_extension(head))


def next_sequence(sequence: int) -> int:
    """Count on."""
    return (sequence + 1) % _SEQUENCE_LIMIT


def is_after(sequence: int, other: int) -> bool:
    """Say whether a sequence is later than another one, also where counting began again at 0."""
    return 0 < (sequence - other) % _SEQUENCE_LIMIT < _SEQUENCE_LIMIT // 2


def _parse_extension(head: bytes) -> Extension | None:
    if len(head) < EXTENDED_HEARTBEAT_BYTES:
        return None
    magic, kind, *fields = _EXTENSION.unpack_from(head, _HEARTBEAT.size)
    if magic != _MAGIC or kind not in (Kind.PROBE, Kind.ECHO):
        return None
    return Extension(Kind(kind), *fields)
