"""The names of the mesh: a set of entries that merges the same in whatever order news arrive; pure.

Only the peer that made an entry changes it, and each change raises its version. A deleted entry stays as a tombstone,
so that older news cannot bring it back. As Weave's, except that spellings of one name never make an entry twice.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Generic, NamedTuple, TypeVar

from plait.dns import names
from plait.mesh.name import PeerName

MAX_ENTRIES = 200_000
"""Entries of all peers, issue 5 asks for half of them: see docs/benchmarks.md for their memory. More are not taken."""

MAX_VERSION = 1 << 62
"""A version above is no count of changes; one more must still fit a signed 64-bit number."""

MAX_TEXT = 1024
"""Characters of a host name or container ID; container IDs have 64, names up to 253."""

TOMBSTONE_LIFE = 1800
"""Seconds that a deletion is remembered at least: Weave's."""

Identity = tuple[str, PeerName, int, str]


class Entry(NamedTuple):
    """Says that a container has a name and an address. `tombstone` is 0, or Unix seconds of the deletion."""

    container_id: str
    origin: PeerName
    address: int
    hostname: str
    version: int = 0
    tombstone: int = 0

    @property
    def identity(self) -> Identity:
        """What makes it this entry."""
        return self[:4]

    @property
    def is_plausible(self) -> bool:
        """False for what no peer that works can say."""
        return (
            0 <= self.version <= MAX_VERSION
            and 0 <= self.tombstone <= MAX_VERSION
            and len(self.hostname) <= MAX_TEXT
            and len(self.container_id) <= MAX_TEXT
        )

    def merged(self, other: "Entry") -> "Entry":
        """Give the newer of two states of one entry; at the same version deletion wins, the later one."""
        return other if other[4:] > self[4:] else self


Filter = Callable[[Entry], bool]


def memory_order(entry: Entry) -> tuple[object, ...]:
    """Sort key of what people see."""
    return (entry.hostname.lower(), entry.origin, entry.container_id, entry.address, entry.hostname)


def wire_order(entry: Entry) -> tuple[object, ...]:
    """Sort key of what peers are told."""
    return (entry.hostname, entry.origin, entry.container_id, entry.address)


def merge_lists(first: Iterable[Entry], second: Iterable[Entry]) -> list[Entry]:
    """Give the newest state of every entry of both, each entry once, in the order of the wire."""
    newest: dict[Identity, Entry] = {}
    for entry in (*first, *second):
        known = newest.get(entry.identity)
        newest[entry.identity] = entry if known is None else known.merged(entry)
    return sorted(newest.values(), key=wire_order)


_FIRST_STATE = (0, 0)
_Keyed = TypeVar("_Keyed", bytes, int)


class _Index(Generic[_Keyed]):
    """The identities under each key. Most keys have one, which stands alone, as a set takes more than an entry."""

    def __init__(self) -> None:
        self._found: dict[_Keyed, Identity | set[Identity]] = {}

    def get(self, key: _Keyed) -> Iterable[Identity]:
        found = self._found.get(key)
        return found if isinstance(found, set) else () if found is None else (found,)

    def add(self, key: _Keyed, identity: Identity) -> None:
        found = self._found.setdefault(key, identity)
        if isinstance(found, set):
            found.add(identity)
        elif found != identity:
            self._found[key] = {found, identity}

    def discard(self, key: _Keyed, identity: Identity) -> None:
        found = self._found.get(key)
        if isinstance(found, set):
            found.discard(identity)
            if len(found) == 1:
                self._found[key] = found.pop()
        elif found == identity:
            del self._found[key]


class Entries:
    """All entries that are known, indexed by name and by address. Iterates in memory order, tombstones included."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._states: dict[Identity, tuple[int, int]] = {}  # version and tombstone: most have the first, in common
        self._names = _Index[bytes]()
        self._addresses = _Index[int]()
        self._records: dict[bytes, tuple[bytes, ...]] = {}
        self.refused = 0
        """News that were not taken since there are MAX_ENTRIES already."""
        self.merge(entries)

    def __len__(self) -> int:
        return len(self._states)

    def __iter__(self) -> Iterator[Entry]:
        return iter(sorted(self._all(), key=memory_order))

    def get(self, identity: Identity) -> Entry | None:
        """Give an entry, alive or not."""
        state = self._states.get(identity)
        return None if state is None else Entry(*identity, *state)

    def add(self, hostname: str, container_id: str, origin: PeerName, address: int) -> Entry:
        """Make an entry, or bring it back; the answer is what all peers are to be told."""
        identity = (container_id, origin, address, hostname)
        entry = self.get(identity)
        if entry is None:
            entry = Entry(*identity)
        elif entry.tombstone:
            entry = entry._replace(tombstone=0, version=entry.version + 1)
        self._put(entry)
        return entry

    def delete(self, matches: Callable[[Identity], bool], now: int, address: int | None = None) -> list[Entry]:
        """Turn living entries into tombstones of `now`; the answer is those, in the order of the wire.

        With an address only its entries are looked at, else all.
        """
        candidates = self._states if address is None else self._addresses.get(address)
        found = [identity for identity in candidates if not self._states[identity][1] and matches(identity)]
        doomed = [Entry(*identity, self._states[identity][0] + 1, now) for identity in found]
        for entry in doomed:
            self._put(entry)
        return sorted(doomed, key=wire_order)

    def merge(self, news: Iterable[Entry]) -> list[Entry]:
        """Take what is newer than what is known; the answer is that. Counts in `refused` what there is no room for."""
        taken = []
        for entry in news:
            known = self.get(entry.identity)
            if known is None:
                if len(self._states) >= MAX_ENTRIES:
                    self.refused += 1
                    continue
            elif known.merged(entry) is known:
                continue
            self._put(entry)
            taken.append(entry)
        return taken

    def remove(self, matches: Filter) -> bool:
        """Forget entries without a trace; True if there were any."""
        gone = [entry for entry in self._all() if matches(entry)]
        for entry in gone:
            self._drop(entry)
        return bool(gone)

    def remove_origin(self, origin: PeerName) -> bool:
        """Forget what a peer said that left the mesh; it says it again when it comes back."""
        return self.remove(lambda entry: entry.origin == origin)

    def expire(self, now: int) -> bool:
        """Forget deletions older than TOMBSTONE_LIFE seconds."""
        return self.remove(lambda entry: bool(entry.tombstone) and now - entry.tombstone > TOMBSTONE_LIFE)

    def lookup(self, hostname: str) -> list[int]:
        """Give the addresses of a name (with trailing dot, in any spelling), in memory order, twice if held twice."""
        return [entry.address for entry in self._living(self._names.get(names.key(hostname)))]

    def reverse(self, address: int) -> str | None:
        """Give the first name of an address in memory order."""
        living = self._living(self._addresses.get(address))
        return living[0].hostname if living else None

    def records(self, key: bytes) -> tuple[bytes, ...]:
        """Give the addresses of the name with this key (`names.key`), each once, as 4 bytes; none: not known."""
        records = self._records.get(key)
        if records is None:
            living = self._living(self._names.get(key))
            records = tuple(dict.fromkeys(entry.address.to_bytes(4, "big") for entry in living))
            if records:
                self._records[key] = records
        return records

    def _all(self) -> Iterator[Entry]:
        return (Entry(*identity, *state) for identity, state in self._states.items())

    def _living(self, identities: Iterable[Identity]) -> list[Entry]:
        found = (Entry(*identity, *self._states[identity]) for identity in identities)
        return sorted((entry for entry in found if not entry.tombstone), key=memory_order)

    def _put(self, entry: Entry) -> None:
        identity, key = entry.identity, names.key(entry.hostname)
        state = entry[4:]
        self._states[identity] = _FIRST_STATE if state == _FIRST_STATE else state
        self._names.add(key, identity)
        self._addresses.add(entry.address, identity)
        self._records.pop(key, None)

    def _drop(self, entry: Entry) -> None:
        identity, key = entry.identity, names.key(entry.hostname)
        del self._states[identity]
        self._records.pop(key, None)
        self._names.discard(key, identity)
        self._addresses.discard(entry.address, identity)
