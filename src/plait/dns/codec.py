"""What peers tell each other about names, on the wire: gob, in Weave's layout (spec: gob, dns 4).

A payload with two identical entries, which crashes a Weave peer, cannot be written here.
"""

from collections.abc import Iterable
from typing import NamedTuple

from plait.dns.entries import Entry, merge_lists
from plait.mesh import gob
from plait.mesh.name import PeerName

CHANNEL = "nameserver"
"""The gossip channel's name."""


class GossipData(NamedTuple):
    """A payload. `timestamp` is the sender's clock in Unix seconds."""

    timestamp: int
    entries: tuple[Entry, ...]


ENTRY = gob.Struct(
    "Entry",
    (
        ("ContainerID", gob.STRING),
        ("Origin", gob.UINT),
        ("Addr", gob.UINT32),
        ("Hostname", gob.STRING),
        ("Version", gob.INT),
        ("Tombstone", gob.INT),
    ),
    lambda v: Entry(v[0], PeerName(v[1]), v[2], v[3], v[4], v[5]),
)
GOSSIP_DATA = gob.Struct(
    "GossipData", (("Timestamp", gob.INT), ("Entries", gob.Slice(ENTRY, "Entries"))), GossipData._make
)

_encoder = gob.Encoder(GOSSIP_DATA)


def encode(timestamp: int, entries: Iterable[Entry]) -> bytes:
    """Write a payload with each entry once, in the order that peers expect."""
    return _encoder.stream(GossipData(timestamp, tuple(merge_lists(entries, ()))))


def decode(payload: bytes) -> GossipData:
    """Read a payload; raises PlaitError."""
    data: GossipData = gob.decode(GOSSIP_DATA, payload)
    return data
