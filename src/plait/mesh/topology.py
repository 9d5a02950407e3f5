"""The topology channel's payload: peers' records as a gob stream.

Does not judge the records; merging is the peer table's business.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from plait.mesh import gob
from plait.mesh.name import NAME_BYTES, PeerName
from plait.mesh.records import ConnectionSummary, PeerRecord, PeerSummary

# Encoded records are kept for the next update: one whole update of the largest size (10 MiB) fits.
CACHE_BYTES = 10 << 20


def encode_topology(records: Iterable[PeerRecord]) -> bytes:
    """Give the payload that tells of these peers, b"" for none; raises GobError for values out of range."""
    parts: list[bytes] = []
    for record in records:
        summary, connections = _cache.encoded(record)
        if parts:
            parts += (summary, connections)
        else:
            parts += (_encoder.definitions(_SUMMARY), summary, _encoder.definitions(_CONNECTIONS), connections)
    return b"".join(parts)


def decode_topology(payload: bytes) -> list[PeerRecord]:
    """Read a payload; raises GobError. A summary at the very end without its connections is dropped, as by Weave.

    Names longer than six bytes keep their last six, which is how Weave prints them.
    """
    records = []
    decoder = gob.Decoder(payload)
    while decoder.has_more():
        summary = decoder.value(PEER_SUMMARY)
        if not decoder.has_more():
            break
        records.append(PeerRecord(summary, decoder.value(CONNECTION_SUMMARIES)))
    return records


def _make_summary(fields: Sequence[Any]) -> PeerSummary:
    raw_name, nickname, uid, version, short_id, has_short_id = fields
    return PeerSummary(_name(raw_name), nickname, uid, version, short_id if has_short_id else None)


def _make_connection(fields: Sequence[Any]) -> ConnectionSummary:
    raw_name, address, outbound, established = fields
    return ConnectionSummary(_name(raw_name), address, outbound, established)


def _name(raw: bytes) -> PeerName:
    return PeerName(int.from_bytes(raw[-NAME_BYTES:], "big"))


PEER_SUMMARY = gob.Struct(
    "peerSummary",
    (
        ("NameByte", gob.BYTES),
        ("NickName", gob.STRING),
        ("UID", gob.UINT),
        ("Version", gob.UINT),
        ("ShortID", gob.UINT16),
        ("HasShortID", gob.BOOL),
    ),
    _make_summary,
)
CONNECTION_SUMMARIES = gob.Slice(
    gob.Struct(
        "connectionSummary",
        (
            ("NameByte", gob.BYTES),
            ("RemoteTCPAddr", gob.STRING),
            ("Outbound", gob.BOOL),
            ("Established", gob.BOOL),
        ),
        _make_connection,
    )
)

_SUMMARY, _CONNECTIONS = range(2)
_encoder = gob.Encoder(PEER_SUMMARY, CONNECTION_SUMMARIES)


class _RecordCache:
    """Encoded records by identity, the least recently used forgotten first.

    Holding the record keeps its id from being given to another object.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._size_bytes = 0
        self._entries: OrderedDict[int, tuple[PeerRecord, tuple[bytes, bytes]]] = OrderedDict()

    def encoded(self, record: PeerRecord) -> tuple[bytes, bytes]:
        """Give the messages of the summary and of the connections."""
        known = self._entries.get(id(record))
        if known is not None:
            self._entries.move_to_end(id(record))
            return known[1]
        messages = _encode_record(record)
        self._entries[id(record)] = (record, messages)
        self._size_bytes += len(messages[0]) + len(messages[1])
        while self._size_bytes > self._limit_bytes:
            _, (_, dropped) = self._entries.popitem(last=False)
            self._size_bytes -= len(dropped[0]) + len(dropped[1])
        return messages


def _encode_record(record: PeerRecord) -> tuple[bytes, bytes]:
    peer = record.summary
    summary = (
        peer.name.to_bytes6(),
        peer.nickname,
        peer.uid,
        peer.version,
        peer.short_id or 0,
        peer.short_id is not None,
    )
    connections = [
        (connection.remote.to_bytes6(), connection.address, connection.outbound, connection.established)
        for connection in record.connections
    ]
    return _encoder.message(summary, _SUMMARY), _encoder.message(connections, _CONNECTIONS)


_cache = _RecordCache(CACHE_BYTES)
