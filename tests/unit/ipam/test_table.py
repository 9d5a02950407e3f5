"""Writing only what differs leaves in the file what writing all would."""

import sqlite3

from hypothesis import given
from hypothesis import strategies as st

from plait.ipam import table
from plait.ipam.address import Cidr
from plait.ipam.entry import Entry
from plait.ipam.records import Holding, Snapshot
from plait.ipam.ring import RingState
from plait.mesh.name import PeerName

PEERS = [PeerName(1), PeerName(2)]

entries = st.lists(
    st.builds(Entry, st.integers(0, 5), st.sampled_from(PEERS), st.integers(0, 1), st.integers(0, 1)),
    max_size=5,
    unique_by=lambda entry: entry.token,
)
holdings = st.dictionaries(
    st.sampled_from("abcd"),
    st.builds(Holding, st.booleans(), st.lists(st.builds(Cidr, st.integers(0, 2), st.just(24)), max_size=2).map(tuple)),
)
snapshots = st.builds(
    lambda ring, held, seeds: Snapshot(RingState(0, 6, PEERS[0], tuple(sorted(ring)), tuple(seeds)), held),
    entries,
    holdings,
    st.lists(st.sampled_from(PEERS), max_size=2),
)


def write(db: sqlite3.Connection, before: Snapshot | None, after: Snapshot) -> None:
    for sql, rows in table.changes(before, after):
        db.executemany(sql, rows)


@given(st.lists(snapshots, min_size=1, max_size=4), st.integers(0, 3))
def test_changes_lead_to_the_snapshot(history: list[Snapshot], kept: int) -> None:
    db = sqlite3.connect(":memory:")
    db.executescript(table.SCHEMA)
    before = None
    for after in history:
        if before is not None:  # as in a node, where most objects of a snapshot are those of the one before
            ring = after.ring._replace(entries=before.ring.entries) if kept & 1 else after.ring
            after = Snapshot(ring, {**before.holdings, **after.holdings} if kept & 2 else after.holdings)
        write(db, before, after)
        assert table.load(db) == after
        before = after


def test_nothing_is_written_for_what_is_the_same() -> None:
    ring = RingState(0, 6, PEERS[0], (Entry(0, PEERS[0], 1, 6),), ())
    held = {"a": Holding(True, (Cidr(1, 24),)), "b": Holding(True, ())}
    before = Snapshot(ring, held)
    assert list(table.changes(before, Snapshot(ring, dict(held)))) == []
    grown = Snapshot(ring, {**held, "c": Holding(True, ())})
    assert [len(rows) for _, rows in table.changes(before, grown)] == [1]
