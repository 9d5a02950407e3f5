"""Writes the vectors of plait1 beside this file: python tests/vectors/plait1/make.py (with src and tests on the path).

Keys and frames are fixed, so that the same bytes come out again; a test compares. What the fields mean is in README.md.
"""

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

from plait.overlay.sleeve.plait1 import wire
from plait.overlay.sleeve.plait1.codec import Sealer
from plait.overlay.sleeve.plait1.engine import PythonEngine, prepared, slice_size
from plait.overlay.sleeve.plait1.keys import EPOCH_BITS, NONCE, Cipher, KeySchedule
from plait.overlay.sleeve.plait1.superframe import layout, part
from plait.overlay.sleeve.plait1.wire import RECORD_LENGTH
from unit.overlay.plait1 import frames as f

DIRECTORY = Path(__file__).parent
SESSION_KEY = bytes(range(32))
SENDER = bytes.fromhex("020000000001")
RELAY = bytes.fromhex("0200000000aa0200000000bb")
UID = 0x1122334455667788
ROOM = 20
"""Payload bytes for which there is room in a datagram."""

Json = dict[str, Any]

WAYS: list[Json] = [
    {"cipher": 0, "from_dialler": True, "generation": 0, "sequence": 7},
    {"cipher": 1, "from_dialler": True, "generation": 0, "sequence": 7},
    {"cipher": 2, "from_dialler": True, "generation": 0, "sequence": 7},
    {"cipher": 1, "from_dialler": False, "generation": 1, "sequence": (3 << EPOCH_BITS) + 5},
    {"cipher": 2, "from_dialler": False, "generation": 1, "sequence": (1 << 48) + 1},
]
"""Clear, both ciphers, and both with another direction, generation and epoch."""


def all_vectors() -> dict[str, Json]:
    """Give the contents of all files by their names."""
    return {
        "keys.json": {"session_key": SESSION_KEY.hex(), "vectors": [_key(way) for way in WAYS if way["cipher"]]},
        "whole.json": {**_common(), "vectors": [each for way in WAYS for each in _whole(way)]},
        "segments.json": {**_common(), "vectors": [each for way in WAYS for each in _segments(way)]},
    }


def text(content: Json) -> str:
    """Give a file's text."""
    return json.dumps(content, indent=1) + "\n"


def _common() -> Json:
    return {"session_key": SESSION_KEY.hex(), "sender": SENDER.hex(), "connection_uid": UID}


def _key(way: Json) -> Json:
    """The steps of section 5, by the standard library."""
    epoch = way["sequence"] >> EPOCH_BITS
    prk = hmac.digest(b"plait1", SESSION_KEY, hashlib.sha256)
    fields = bytes((way["cipher"], 1 if way["from_dialler"] else 2)) + way["generation"].to_bytes(4, "big")
    info = b"plait1 key" + fields + epoch.to_bytes(8, "big")
    return {
        **way,
        "prk": prk.hex(),
        "epoch": epoch,
        "info": info.hex(),
        "key": hmac.digest(prk, info + b"\x01", hashlib.sha256).hex(),
        "nonce_of_records": NONCE.pack(1, 0, 0, way["sequence"]).hex(),
        "nonce_of_last_payload_3": NONCE.pack(2, 0x83, 0, way["sequence"]).hex(),
        "nonce_of_blob": NONCE.pack(5, 0, 0, way["sequence"]).hex(),
    }


def _sealer(way: Json) -> Sealer:
    schedule = None
    if way["cipher"]:
        schedule = KeySchedule(
            SESSION_KEY, Cipher(way["cipher"]), from_dialler=way["from_dialler"], generation=way["generation"]
        )
    return Sealer(SENDER, PythonEngine(), schedule, way["sequence"])


def _whole(way: Json) -> list[Json]:
    raws = [
        f.finished("udp4", b"hello", df=False),
        f.unfinished("tcp6", b"world"),
        f.super_frame("tcp4", bytes(60), 30),
    ]
    body = b"".join(RECORD_LENGTH.pack(len(raw)) + raw for raw in raws)
    probe = _sealer(way).probe(UID, 128)[1]
    ack = wire.Ack(UID, way["sequence"], len(probe) + wire.IP_UDP_BYTES, 123_456_789)
    records = {"kind": "records", "frames": [raw.hex() for raw in raws]}
    return [
        {**way, **records, "relay": "", "datagram": _sealer(way).records(body, b"").hex()},
        {**way, **records, "relay": RELAY.hex(), "datagram": _sealer(way).records(body, RELAY).hex()},
        {**way, "kind": "probe", "size": len(probe) + wire.IP_UDP_BYTES, "datagram": probe.hex()},
        {**way, "kind": "acknowledgement", **_ack_fields(ack), "datagram": _sealer(way).ack(ack).hex()},
    ]


def _ack_fields(ack: wire.Ack) -> Json:
    return {"probe": ack.sequence, "size": ack.size, "received": ack.received}


def _segments(way: Json) -> list[Json]:
    flags = f.ACK | f.PSH | f.FIN | f.CWR
    payload = f.noise(87)
    first = [
        _super(way, "TCP over IPv4", f.super_frame("tcp4", payload, 20, flags=flags, identification=0xFFFE)),
        _super(way, "UDP over IPv6, a VLAN tag, relayed", f.super_frame("udp6", payload, 20, vlans=1), RELAY),
    ]
    if way["cipher"]:
        return first
    return [
        *first,
        _super(way, "TCP over IPv6", f.super_frame("tcp6", payload, 20)),
        _super(way, "UDP over IPv4", f.super_frame("udp4", payload, 20)),
        _super(way, "TCP, slices of two segments", f.super_frame("tcp4", payload, 9, sequence=2**32 - 30)),
        _super(way, "TCP, slices shorter than a segment", f.super_frame("tcp4", payload, 33)),
    ]


def _super(way: Json, title: str, raw: bytes, relay: bytes = b"") -> Json:
    where = layout(raw)
    assert where is not None
    sealed = 0 if way["cipher"] == 0 else 2 * wire.TAG_BYTES
    overhead = wire.HEADER_BYTES + len(relay) + wire.SEGMENT_FIELDS.size + where.payload + 1 + sealed
    slice_bytes = slice_size(where, ROOM)
    made = _sealer(way).segments(memoryview(raw), where, overhead + ROOM, relay)
    assert made is not None
    (segments,) = made
    whole = b"".join(segments.buffers)
    datagrams = [whole[at : at + segments.size] for at in range(0, len(whole), segments.size)]
    count = len(datagrams)
    return {
        **way,
        "title": title,
        "relay": relay.hex(),
        "super_frame": raw.hex(),
        "slice": slice_bytes,
        "datagrams": [each.hex() for each in datagrams],
        "runs": [_run(raw, slice_bytes, *ends, count) for ends in ((0, 1), (1, 3), (count - 1, count), (0, count))],
    }


def _run(raw: bytes, slice_bytes: int, first: int, end: int, count: int) -> Json:
    where = layout(raw)
    assert where is not None
    ((blob, payload),) = prepared(memoryview(raw), where, slice_bytes)
    piece = bytes(payload[first * slice_bytes : end * slice_bytes])
    blob_layout = layout(blob + b"\x00")
    assert blob_layout is not None
    is_all = (first, end) == (0, count)
    head = blob if is_all else part(blob, blob_layout, first * slice_bytes, len(piece), end == count)
    return {"first": first, "end": end, "frame": (head + piece).hex()}


def main() -> None:
    """Write."""
    for name, content in all_vectors().items():
        (DIRECTORY / name).write_text(text(content))


if __name__ == "__main__":
    main()
