"""How a snapshot of address allocation lies in the tables of the node's state file: one row for each entry and ident.

Pure: statements and rows. Of a new snapshot only what changed is written, a row or two for an allocation.
"""

import json
from collections.abc import Iterator
from sqlite3 import Connection

from plait.ipam.address import Cidr, InvalidAddress
from plait.ipam.entry import Entry
from plait.ipam.records import Holding, Snapshot
from plait.ipam.ring import RingState
from plait.mesh.name import PeerName

SCHEMA = """
CREATE TABLE ring (
    only INTEGER PRIMARY KEY CHECK (only = 0), first INTEGER NOT NULL, after_last INTEGER NOT NULL, peer TEXT NOT NULL,
    seeds TEXT NOT NULL
);
CREATE TABLE ring_entries (
    token INTEGER PRIMARY KEY, peer TEXT NOT NULL, version INTEGER NOT NULL, free INTEGER NOT NULL
);
CREATE TABLE holdings (ident BLOB PRIMARY KEY, is_container INTEGER NOT NULL, cidrs TEXT NOT NULL);
"""

Statement = tuple[str, list[tuple[object, ...]]]
"""SQL, and the rows to run it with."""

_PUT_ENTRY = "INSERT OR REPLACE INTO ring_entries VALUES (?, ?, ?, ?)"


def changes(before: Snapshot | None, after: Snapshot) -> Iterator[Statement]:
    """Give the statements that turn one snapshot into another."""
    if before is None or before.ring[:3] != after.ring[:3] or before.ring.seeds != after.ring.seeds:
        seeds = json.dumps([str(seed) for seed in after.ring.seeds])
        row = (0, after.ring.start, after.ring.end, str(after.ring.peer), seeds)
        yield "INSERT OR REPLACE INTO ring VALUES (?, ?, ?, ?, ?)", [row]
    entries = {entry.token: entry for entry in before.ring.entries} if before else {}
    tokens = {entry.token for entry in after.ring.entries}
    yield "DELETE FROM ring_entries WHERE token = ?", [(token,) for token in entries if token not in tokens]
    changed = [entry for entry in after.ring.entries if entries.get(entry.token) != entry]
    yield _PUT_ENTRY, [(entry.token, str(entry.peer), entry.version, entry.free) for entry in changed]
    holdings = before.holdings if before else {}
    gone: list[tuple[object, ...]] = [(_key(ident),) for ident in holdings if ident not in after.holdings]
    yield "DELETE FROM holdings WHERE ident = ?", gone
    rows = [_row(ident, holding) for ident, holding in after.holdings.items() if holdings.get(ident) != holding]
    yield "INSERT OR REPLACE INTO holdings VALUES (?, ?, ?)", rows


def clear() -> Iterator[Statement]:
    """Give the statements that remove all."""
    for name in ("ring", "ring_entries", "holdings"):
        yield f"DELETE FROM {name}", [()]


def load(db: Connection) -> Snapshot | None:
    """Read the stored snapshot; None if there never was one. Raises ValueError or TypeError for what makes no sense."""
    rings = db.execute("SELECT first, after_last, peer, seeds FROM ring").fetchall()
    if not rings:
        return None
    [(start, end, peer, seeds)] = rings
    entries = tuple(
        Entry(_number(token), PeerName.parse(_text(owner)), _number(version), _number(free))
        for token, owner, version, free in db.execute("SELECT * FROM ring_entries ORDER BY token")
    )
    ring = RingState(
        _number(start),
        _number(end),
        PeerName.parse(_text(peer)),
        entries,
        tuple(PeerName.parse(_text(seed)) for seed in _list(seeds)),
    )
    holdings = {
        _ident(ident): Holding(bool(_number(is_container)), _cidrs(cidrs))
        for ident, is_container, cidrs in db.execute("SELECT * FROM holdings ORDER BY rowid")
    }
    return Snapshot(ring, holdings)


def _row(ident: str, holding: Holding) -> tuple[object, ...]:
    return _key(ident), holding.is_container, json.dumps([str(cidr) for cidr in holding.cidrs])


def _key(ident: str) -> bytes:
    """An ident comes from others and may be no proper text; SQLite's text must be."""
    return ident.encode("utf-8", "surrogateescape")


def _ident(value: object) -> str:
    if not isinstance(value, bytes):
        raise TypeError(f"{value!r} is no ident")
    return value.decode("utf-8", "surrogateescape")


def _cidrs(value: object) -> tuple[Cidr, ...]:
    try:
        return tuple(Cidr.parse(_text(cidr)) for cidr in _list(value))
    except InvalidAddress as error:
        raise ValueError(str(error)) from error


def _list(value: object) -> list[object]:
    decoded = json.loads(_text(value))
    if not isinstance(decoded, list):
        raise TypeError(f"{value!r} is no list")
    return decoded


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or not 0 <= value <= 0xFFFFFFFF:
        raise ValueError(f"{value!r} is no number of 32 bits")
    return value
