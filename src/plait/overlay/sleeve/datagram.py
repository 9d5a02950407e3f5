"""Weave's UDP payload: the sending neighbour's name, then records of source peer, destination peer and frame.

Encryption wraps the records (crypto.py). Special frames, the messages between two neighbours, are made and told
apart here; what they mean is the session's business (spec: sleeve, sections 2 and 4).
"""

from collections.abc import Iterable
from enum import Enum
from struct import Struct
from typing import NamedTuple

from plait.mesh.name import NAME_BYTES
from plait.overlay.ethernet import HEADER_BYTES, SPECIAL_PREFIX
from plait.overlay.outer import ip_udp_bytes

Record = tuple[bytes, bytes, bytes]
"""Source peer, destination peer (six bytes each), frame."""

RECORD_HEADER = Struct(">6s6sH")
RECORD_HEADER_BYTES = RECORD_HEADER.size
SEQUENCE_BYTES = 8
TAG_BYTES = 16
PLAIN_OVERHEAD_BYTES = NAME_BYTES
ENCRYPTED_OVERHEAD_BYTES = NAME_BYTES + SEQUENCE_BYTES + TAG_BYTES
"""What a datagram spends besides its records."""

IP_UDP_BYTES = ip_udp_bytes(is_ipv6=False)
MAX_PAYLOAD_BYTES = 65535 - IP_UDP_BYTES
"""The largest UDP payload over IPv4."""

MAX_FRAME_BYTES = 0xFFFF

HEARTBEAT_LENGTH = HEADER_BYTES + 8
FRAGMENTATION_TEST_LENGTH = 60001
"""The lengths that are no MTU test: a special frame's length is its only type field."""


class SpecialKind(Enum):
    """What a special frame says."""

    HEARTBEAT = "heartbeat"
    FRAGMENTATION_TEST = "fragmentation test"
    MTU_TEST = "MTU test"


class Decoded(NamedTuple):
    """The records up to the first error; `error` says what is wrong with the rest, None if nothing is."""

    records: list[Record]
    error: str | None


def datagram_overhead(encrypted: bool) -> int:
    """Give the bytes of a datagram that belong to no record."""
    return ENCRYPTED_OVERHEAD_BYTES if encrypted else PLAIN_OVERHEAD_BYTES


def mtu_overhead(encrypted: bool, *, is_ipv6: bool = False) -> int:
    """Give the difference between the MTUs of underlay and overlay: 62 bytes plain, 86 encrypted, by IPv6 20 more."""
    return ip_udp_bytes(is_ipv6=is_ipv6) + datagram_overhead(encrypted) + RECORD_HEADER_BYTES + HEADER_BYTES


def sender_of(payload: bytes) -> bytes | None:
    """Give the name of the neighbour that says it sent this datagram, None if the datagram is too short for one."""
    return payload[:NAME_BYTES] if len(payload) >= NAME_BYTES else None


def encode_records(records: Iterable[Record]) -> bytes:
    """Write records one after the other. Frames have at most MAX_FRAME_BYTES."""
    pack = RECORD_HEADER.pack
    return b"".join([part for src, dst, frame in records for part in (pack(src, dst, len(frame)), frame)])


def encode_plain(sender: bytes, records: Iterable[Record]) -> bytes:
    """Write the UDP payload of an unencrypted connection."""
    return sender + encode_records(records)


def decode_records(data: bytes, at: int = 0) -> Decoded:
    """Read the records of `data` from offset `at`: NAME_BYTES for a plain payload, 0 for opened records."""
    records: list[Record] = []
    unpack = RECORD_HEADER.unpack_from
    end = len(data)
    last_header = end - RECORD_HEADER_BYTES
    while at <= last_header:
        src, dst, length = unpack(data, at)
        start = at + RECORD_HEADER_BYTES
        at = start + length
        if at > end:
            return Decoded(records, f"frame at byte {start} should have {length} bytes and has {end - start}")
        records.append((src, dst, data[start:at]))
    return Decoded(records, None if at == end else f"{end - at} bytes after the last record, at byte {at}")


def special_frame(length: int, uid: int | None = None) -> bytes:
    """Make a special frame of `length` bytes, zeros but for the 64-bit connection UID of a heartbeat."""
    body = b"" if uid is None else uid.to_bytes(8, "big")
    if not HEADER_BYTES + len(body) <= length <= MAX_FRAME_BYTES:
        raise ValueError(f"a special frame cannot have {length} bytes")
    return (SPECIAL_PREFIX + body).ljust(length, b"\x00")


def special_kind(length: int) -> SpecialKind:
    """Tell special frames apart."""
    if length == HEARTBEAT_LENGTH:
        return SpecialKind.HEARTBEAT
    return SpecialKind.FRAGMENTATION_TEST if length == FRAGMENTATION_TEST_LENGTH else SpecialKind.MTU_TEST


def heartbeat_uid(frame: bytes) -> int | None:
    """Give the connection UID of a heartbeat, None for any other length."""
    return int.from_bytes(frame[HEADER_BYTES:], "big") if len(frame) == HEARTBEAT_LENGTH else None


def is_all_zero(frame: bytes) -> bool:
    """Say whether a frame has nothing but zero bytes, as fragmentation tests must."""
    return frame == bytes(len(frame))
