"""How a snapshot of address allocation lies in the tables of the node's state file: one row for each entry and ident.

Pure: statements and rows. Of a new snapshot only what changed is written, a row or two for an allocation.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from operator import is_not
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
    yield from _entry_changes(before.ring.entries if before else (), after.ring.entries)
    yield from _holding_changes(before.holdings if before else {}, after.holdings)


def _entry_changes(before: Sequence[Entry], after: Sequence[Entry]) -> Iterator[Statement]:
    """Mostly the same entries, of which some have other values: what is the same object needs no look inside."""
    gone: list[tuple[object, ...]] = []
    changed = [(old, new) for old, new in zip(before, after, strict=False) if old is not new]
    if len(before) == len(after) and all(old.token == new.token for old, new in changed):
        entries = [new for old, new in changed if old != new]
    else:
        known = {entry.token: entry for entry in before}
        gone = [(token,) for token in known.keys() - {entry.token for entry in after}]
        entries = [entry for entry in after if known.get(entry.token) != entry]
    if gone:
        yield "DELETE FROM ring_entries WHERE token = ?", gone
    if entries:
        yield _PUT_ENTRY, [(entry.token, str(entry.peer), entry.version, entry.free) for entry in entries]


def _holding_changes(before: Mapping[str, Holding], after: Mapping[str, Holding]) -> Iterator[Statement]:
    """Only what is another object needs a look inside; keys are compared one by one only if some must be gone."""
    changed = list(compress(after, map(is_not, after.values(), map(before.get, after))))
    added = sum(ident not in before for ident in changed)
    if len(before) + added != len(after):
        yield "DELETE FROM holdings WHERE ident = ?", [(_key(ident),) for ident in before.keys() - after.keys()]
    rows = [_row(ident, after[ident]) for ident in changed if before.get(ident) != after[ident]]
    if rows:
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
