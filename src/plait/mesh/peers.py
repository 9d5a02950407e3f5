"""The table of all peers: our own record, what others gossip of themselves, and who is forgotten.

Decides nothing about when records are sent, and knows no connection but what the records say.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from plait.mesh.name import InvalidPeerName, PeerName
from plait.mesh.records import ConnectionSummary, PeerRecord, PeerSummary
from plait.mesh.shortids import SHORT_IDS, ShortIds

# Peers that gossip may enter. Twice the number of short IDs: a mesh with more than 4096 peers has lost the fast
# datapath long before. Peers at the other end of our own connections are entered beyond it; they have their own limit.
MAX_PEERS = 8192
# A peer has at most one connection to each other peer, so no honest record has more.
MAX_CONNECTIONS_PER_PEER = MAX_PEERS
# Connections in all records. Every peer sends all records in one message of at most 10 MiB (spec mesh, section 3.1),
# and a connection takes about 30 bytes of it: a mesh with more than 350 000 cannot gossip its topology.
MAX_CONNECTIONS = 1 << 19
# Longest texts that are kept. Host names have at most 255 bytes, an IPv6 address with zone and port about 70.
MAX_NICKNAME_LENGTH = 1024
MAX_ADDRESS_LENGTH = 128

MAX_VERSION = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class MergeResult:
    """What an update did. `names`: all peers it named; `improved`: whose record is new to us.

    `refused`: peers whose record a limit keeps out. `notices`: sentences for the log, once per cause.
    `own_record_changed`: our version rose, so our record must be sent.
    """

    names: frozenset[PeerName]
    improved: frozenset[PeerName]
    own_record_changed: bool
    refused: frozenset[PeerName] = frozenset()
    notices: tuple[str, ...] = ()


class Peers:
    """All known peers, ourselves included. Iteration gives names."""

    def __init__(self, ourself: PeerSummary, rng: random.Random) -> None:
        self.short_ids = ShortIds()
        self._rng = rng
        self._our_name = ourself.name
        self._wants_short_id = ourself.short_id is not None
        self._records: dict[PeerName, PeerRecord] = {}
        self._references: Counter[PeerName] = Counter()
        self._connection_count = 0
        self._known_troubles: set[str] = set()
        self._put(PeerRecord(ourself))

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[PeerName]:
        return iter(self._records)

    def __contains__(self, name: object) -> bool:
        return name in self._records

    @property
    def ourself(self) -> PeerRecord:
        """Our own record."""
        return self._records[self._our_name]

    def get(self, name: PeerName) -> PeerRecord | None:
        """Give a peer's record."""
        return self._records.get(name)

    def records(self, names: Iterable[PeerName] | None = None) -> list[PeerRecord]:
        """Give the records of these peers (None: of all), without those that are not known."""
        if names is None:
            return list(self._records.values())
        return [self._records[name] for name in names if name in self._records]

    def owned_short_ids(self) -> dict[PeerName, int]:
        """Give the short ID of each peer that owns one, ourselves included."""
        owned = {}
        for record in self.records():
            short_id = record.summary.short_id
            if short_id is not None and self.short_ids.owner(short_id) == record.name:
                owned[record.name] = short_id
        return owned

    def nickname_matches(self, text: str) -> list[PeerName]:
        """Give the names of all peers with this nickname, lowest first."""
        return sorted(name for name, record in self._records.items() if record.summary.nickname == text)

    def find(self, given: str) -> PeerName | None:
        """Give the peer of this nickname, else the one of this name; None if there is neither."""
        for record in self._records.values():
            if record.summary.nickname == given:
                return record.summary.name
        try:
            name = PeerName.parse(given)
        except InvalidPeerName:
            return None
        return name if name in self._records else None

    def label(self, name: PeerName) -> str:
        """Give `name(nickname)` as people read it; the bare name of an unknown peer."""
        record = self._records.get(name)
        return str(name) if record is None else f"{name}({record.summary.nickname})"

    # Our own connections

    def enter_remote(self, summary: PeerSummary) -> None:
        """Register the far end of a new connection, with version 0, unless the peer is known already.

        It may have a claim to our short ID: then our own record changes.
        """
        if summary.name not in self._records:
            self._put(PeerRecord(replace(summary, version=0)))
            self._settle_our_short_id()

    def acquire(self, name: PeerName) -> None:
        """Keep a peer from garbage collection until `release`; references are counted."""
        self._references[name] += 1

    def release(self, name: PeerName) -> None:
        """Give one reference back. Raise ValueError if there is none."""
        if not self._references[name]:
            raise ValueError(f"peer {name} is released more often than acquired")
        self._references[name] -= 1
        if not self._references[name]:
            del self._references[name]

    def add_connection(self, connection: ConnectionSummary) -> None:
        """Enter a connection of ours, in place of an older one to the same peer."""
        self._publish(connections=(*self._connections_except(connection.remote), connection))

    def establish_connection(self, remote: PeerName) -> None:
        """Mark our connection to a peer as established. Raise ValueError if there is none."""
        connection = self._connection_to(remote)
        self._publish(connections=(*self._connections_except(remote), replace(connection, established=True)))

    def remove_connection(self, remote: PeerName) -> None:
        """Take our connection to a peer out of our record. Raise ValueError if there is none."""
        self._connection_to(remote)
        self._publish(connections=self._connections_except(remote))

    # Gossip

    def merge(self, records: Sequence[PeerRecord]) -> MergeResult:
        """Take what is newer than what we know (spec mesh, section 7.3), within the limits above."""
        before = self.ourself.summary.version
        merge = _Merge(self._known_troubles)
        allowed = [record for record in records if merge.allows(record)]
        new = {record.name for record in allowed if self._enter_placeholder(record.name, merge)}
        for record in allowed:
            for connection in record.connections:
                self._enter_placeholder(connection.remote, merge)
        for record in allowed:
            if record.name == self._our_name:
                self._outdo_earlier_incarnation(record.summary, merge)
            elif record.name in self._records and self._accept(record, merge, is_new=record.name in new):
                merge.improved.add(record.name)
                new.discard(record.name)
        if not self._settle_our_short_id():
            merge.trouble("short id", f"all {SHORT_IDS} short IDs are taken: this node has none for the fast datapath")
        names = frozenset(record.name for record in records)
        return merge.result(names, own_record_changed=self.ourself.summary.version != before)

    def collect_garbage(self) -> list[PeerRecord]:
        """Remove and give all peers that are neither reachable from ourselves nor referenced.

        If we lack a short ID, we may get one that became free: then our own record changes.
        """
        kept = self._reachable() | self._references.keys()
        removed = [record for name, record in self._records.items() if name not in kept]
        for record in removed:
            self._remove(record)
        if removed:
            self._known_troubles.clear()
        self._settle_our_short_id()
        return removed

    # Table

    def _put(self, record: PeerRecord) -> None:
        older = self._records.get(record.name)
        if older is not None:
            self._connection_count -= len(older.connections)
            if older.summary.short_id != record.summary.short_id:
                self.short_ids.release(older.summary.short_id, record.name)
        self._records[record.name] = record
        self._connection_count += len(record.connections)
        self.short_ids.claim(record.summary.short_id, record.name)

    def _remove(self, record: PeerRecord) -> None:
        del self._records[record.name]
        self._connection_count -= len(record.connections)
        self.short_ids.release(record.summary.short_id, record.name)

    def _reachable(self) -> set[PeerName]:
        """Follow all connections, established or not, in the direction of the peer that reports them."""
        seen = {self._our_name}
        to_visit = [self._our_name]
        while to_visit:
            for connection in self._records[to_visit.pop()].connections:
                if connection.remote not in seen and connection.remote in self._records:
                    seen.add(connection.remote)
                    to_visit.append(connection.remote)
        return seen

    # Our own record

    def _publish(
        self, *, summary: PeerSummary | None = None, connections: tuple[ConnectionSummary, ...] | None = None
    ) -> None:
        """Change our record; the version rises by one from that of the given (or present) summary."""
        base = self.ourself.summary if summary is None else summary
        raised = replace(base, version=min(base.version + 1, MAX_VERSION))
        self._put(PeerRecord(raised, self.ourself.connections if connections is None else connections))

    def _connection_to(self, remote: PeerName) -> ConnectionSummary:
        for connection in self.ourself.connections:
            if connection.remote == remote:
                return connection
        raise ValueError(f"our record has no connection to {remote}")

    def _connections_except(self, remote: PeerName) -> tuple[ConnectionSummary, ...]:
        return tuple(connection for connection in self.ourself.connections if connection.remote != remote)

    def _outdo_earlier_incarnation(self, theirs: PeerSummary, merge: "_Merge") -> None:
        """Jump above a record that an earlier run of this node left in the mesh."""
        own = self.ourself.summary
        if theirs.uid == own.uid or theirs.version < own.version:
            return
        if theirs.version == MAX_VERSION:
            merge.trouble(
                "version",
                f"the mesh holds a record of our name {own.name} with the highest version there is, so our own record "
                "may be ignored: launch this node with another --name",
            )
        self._publish(summary=replace(own, version=theirs.version))

    def _settle_our_short_id(self) -> bool:
        """Choose anew if a peer with a lower name claims our short ID; False if none is free, then we have none."""
        own = self.ourself.summary
        if not self._wants_short_id:
            return True
        if own.short_id is not None and self.short_ids.owner(own.short_id) == self._our_name:
            return True
        free = self.short_ids.choose(self._rng)
        if free != own.short_id:
            self._publish(summary=replace(own, short_id=free))
        return free is not None

    # Other records

    def _enter_placeholder(self, name: PeerName, merge: "_Merge") -> bool:
        """Enter an unknown peer, of which nothing is known yet; False if it is known or the table is full."""
        if name in self._records:
            return False
        if len(self._records) >= MAX_PEERS:
            merge.refuse(name, f"the peer table is full ({MAX_PEERS} peers): further peers are left out")
            return False
        self._put(PeerRecord(PeerSummary(name)))
        return True

    def _accept(self, record: PeerRecord, merge: "_Merge", *, is_new: bool) -> bool:
        known = self._records[record.name]
        if not is_new and not _supersedes(record.summary, known.summary):
            return False
        record = _distinct(record)
        if self._connection_count - len(known.connections) + len(record.connections) > MAX_CONNECTIONS:
            merge.refuse(record.name, f"all peers report more than {MAX_CONNECTIONS} connections: more are left out")
            return False
        self._put(record)
        return True


class _Merge:
    """What one merge gathers for its result. A trouble gives one notice, and none again until peers were removed."""

    def __init__(self, known_troubles: set[str]) -> None:
        self.improved: set[PeerName] = set()
        self._refused: set[PeerName] = set()
        self._notices: list[str] = []
        self._known_troubles = known_troubles

    def allows(self, record: PeerRecord) -> bool:
        """False, and refused, if the record itself is larger than any honest one."""
        if len(record.connections) > MAX_CONNECTIONS_PER_PEER:
            what = f"more than {MAX_CONNECTIONS_PER_PEER} connections"
        elif len(record.summary.nickname) > MAX_NICKNAME_LENGTH:
            what = f"a nickname of more than {MAX_NICKNAME_LENGTH} characters"
        elif any(len(connection.address) > MAX_ADDRESS_LENGTH for connection in record.connections):
            what = f"a connection address of more than {MAX_ADDRESS_LENGTH} characters"
        else:
            return True
        self.refuse(record.name, f"records with {what} are ignored")
        return False

    def refuse(self, name: PeerName, why: str) -> None:
        self._refused.add(name)
        self.trouble(why, f"{why}; the first is peer {name}")

    def trouble(self, cause: str, sentence: str) -> None:
        if cause not in self._known_troubles:
            self._known_troubles.add(cause)
            self._notices.append(sentence)

    def result(self, names: frozenset[PeerName], *, own_record_changed: bool) -> MergeResult:
        return MergeResult(
            names, frozenset(self.improved), own_record_changed, frozenset(self._refused), tuple(self._notices)
        )


def _supersedes(theirs: PeerSummary, known: PeerSummary) -> bool:
    if theirs.version != known.version:
        return theirs.version > known.version
    if theirs.uid != known.uid:
        return theirs.uid > known.uid
    return known.short_id is None and theirs.short_id is not None


def _distinct(record: PeerRecord) -> PeerRecord:
    """Keep the last of several connections to one peer."""
    last = {connection.remote: connection for connection in record.connections}
    return record if len(last) == len(record.connections) else replace(record, connections=tuple(last.values()))
