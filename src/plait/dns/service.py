"""The node's names: the gossip channel, what the verbs do to them, and deletions that are forgotten in time."""

import asyncio
from collections.abc import Callable, Container, Iterable, Sequence

from plait.dns import codec, names
from plait.dns.database import Database, Received
from plait.dns.entries import MAX_ENTRIES, Entry, merge_lists
from plait.mesh.gossip import GossipData, GossipRefused
from plait.mesh.name import PeerName

EXPIRY_INTERVAL = 1800.0
"""Seconds between looks for deletions to forget: Weave's."""

ENTRIES_PER_PAYLOAD = 5_000
"""Some 500 kB and 50 ms of work at the receiver, which does other things between payloads."""


class NameNews:
    """Entries that wait to be sent. `timestamp`: Unix seconds of whoever says it."""

    def __init__(self, timestamp: int, entries: Sequence[Entry]) -> None:
        self.timestamp = timestamp
        self.entries = entries

    def merged(self, newer: GossipData) -> GossipData:
        """Give the newest state of every entry of both."""
        if not isinstance(newer, NameNews):
            raise TypeError("news of names merge only with their like")
        return NameNews(max(self.timestamp, newer.timestamp), merge_lists(self.entries, newer.entries))

    def encode(self) -> Iterable[bytes]:
        """Give the payloads; one, unless there are very many entries."""
        entries = merge_lists(self.entries, ())
        for start in range(0, len(entries) or 1, ENTRIES_PER_PAYLOAD):
            yield codec.encode(self.timestamp, entries[start : start + ENTRIES_PER_PAYLOAD])


class NameService:
    """Owns the names that this node knows; a Gossiper of the channel `nameserver`.

    `known` are the peers of the mesh; `broadcast` tells news to all of them; `wall` gives Unix seconds; `warn` tells
    people. Names of other domains than `domain` (with trailing dot) are not kept, which is Weave's way and no error.
    """

    def __init__(
        self,
        us: PeerName,
        known: Container[PeerName],
        domain: str,
        broadcast: Callable[[GossipData], None],
        wall: Callable[[], float],
        warn: Callable[[str], None] = lambda sentence: None,
    ) -> None:
        self.database = Database(us, known)
        self.domain = names.absolute(domain)
        self._us = us
        self._broadcast = broadcast
        self._wall = wall
        self._warn = warn
        self._refused = 0

    # What the verbs and the containers do

    def add(self, container_id: str, address: int, hostname: str) -> bool:
        """Give a container a name for an address (a number); False if the name is outside of the domain.

        Raises BadName.
        """
        hostname = names.absolute(hostname)
        if not names.is_in(hostname, self.domain):
            return False
        self._tell([self.database.add(names.checked(hostname), container_id, address)])
        return True

    def remove(self, container_id: str | None = None, address: int | None = None, hostname: str | None = None) -> int:
        """Delete our names that match all that is given; the answer is how many. Other peers' names are never touched.

        The host name must be spelt as it was added; its trailing dot may be missing.
        """
        spelt = None if hostname is None else names.absolute(hostname)
        doomed = self.database.delete(self._now(), container_id, address, spelt)
        self._tell(doomed)
        return len(doomed)

    def named(self) -> set[str]:
        """Give the containers that have names from us."""
        return {each.container_id for each in self.database.entries if each.origin == self._us and not each.tombstone}

    def container_died(self, container_id: str) -> None:
        """Delete the names of a container."""
        self.remove(container_id)

    def lookup(self, hostname: str) -> list[int]:
        """Give the addresses of a name in any spelling."""
        return self.database.entries.lookup(names.absolute(hostname))

    def reverse(self, address: int) -> str | None:
        """Give a name of an address."""
        return self.database.entries.reverse(address)

    def peer_gone(self, peer: PeerName) -> None:
        """Forget the names of a peer that left the mesh."""
        self.database.entries.remove_origin(peer)

    def expire(self) -> None:
        """Forget old deletions."""
        self.database.entries.expire(self._now())

    async def keep_expiring(self) -> None:
        """Forget old deletions now and then, for ever."""
        while True:
            await asyncio.sleep(EXPIRY_INTERVAL)
            self.expire()

    # Gossiper

    def everything(self) -> GossipData | None:
        """All entries with their tombstones; also none, as Weave does."""
        return self._news(list(self.database.entries))

    def receive(self, payload: bytes, now: float) -> GossipData | None:
        """Merge; what was new is news."""
        _, received = self._merge(payload)
        return self._news(received.new) if received.new else None

    def receive_broadcast(self, source: PeerName, payload: bytes, now: float) -> GossipData | None:
        """Merge what a peer told all, and pass on what of it is valid."""
        data, received = self._merge(payload)
        return NameNews(data.timestamp, received.valid)

    def receive_unicast(self, source: PeerName, payload: bytes, now: float) -> None:
        """Refuse: nobody is told alone."""
        raise GossipRefused(f"peer {source} sent names as a unicast, which the protocol does not allow")

    def _merge(self, payload: bytes) -> tuple[codec.GossipData, Received]:
        data, received = self.database.receive(payload, self._now())
        self._tell(received.corrections)
        refused = self.database.entries.refused
        if refused > self._refused:
            self._refused = refused
            self._warn(
                f"there are more than {MAX_ENTRIES} names in the mesh, and those above are not known here; "
                "look with 'plait status dns' for who gives so many"
            )
        return data, received

    def _tell(self, entries: list[Entry]) -> None:
        if entries:
            self._broadcast(self._news(entries))

    def _news(self, entries: list[Entry]) -> NameNews:
        return NameNews(self._now(), entries)

    def _now(self) -> int:
        return int(self._wall())
