"""One node's view of all names, and the rules of who may change what; pure (spec: dns 3, 5, 6).

Times are Unix seconds, as clocks of several hosts are compared.
"""

from collections.abc import Container
from typing import NamedTuple

from plait.dns.codec import GossipData, decode
from plait.dns.entries import Entries, Entry, Identity, merge_lists
from plait.mesh.gossip import GossipRefused
from plait.mesh.name import PeerName

MAX_CLOCK_SKEW = 900
"""Seconds between two hosts' clocks, Weave's limit: a deletion must not be forgotten here while it is alive there."""


class Received(NamedTuple):
    """What a payload brought: all of it that is valid, what of that was new, and what we must contradict."""

    valid: list[Entry]
    new: list[Entry]
    corrections: list[Entry]


class Database:
    """The names that node `us` knows. `known` are the peers of the mesh: entries of others are not kept."""

    def __init__(self, us: PeerName, known: Container[PeerName]) -> None:
        self._us = us
        self._known = known
        self.entries = Entries()

    def add(self, hostname: str, container_id: str, address: int) -> Entry:
        """Give a container a name for an address; the answer is to be told to all, even if it is not new."""
        return self.entries.add(hostname, container_id, self._us, address)

    def delete(
        self, now: int, container_id: str | None = None, address: int | None = None, hostname: str | None = None
    ) -> list[Entry]:
        """Delete our entries that match what is given (None: any); the answer is to be told to all, if not empty."""

        def matches(identity: Identity) -> bool:
            holder, origin, held, spelt = identity
            return (
                origin == self._us
                and container_id in (None, holder)
                and address in (None, held)
                and hostname in (None, spelt)
            )

        return self.entries.delete(matches, now, address)

    def receive(self, payload: bytes, now: int) -> tuple[GossipData, Received]:
        """Merge what a peer sent; raises PlaitError for what must end the connection it came by."""
        data = decode(payload)
        skew = data.timestamp - now
        if abs(skew) > MAX_CLOCK_SKEW:
            raise GossipRefused(
                f"the peer's clock is {abs(skew)} s {'ahead of' if skew > 0 else 'behind'} ours, and "
                f"{MAX_CLOCK_SKEW} s are the most between hosts that share names; set both by NTP"
            )
        valid: list[Entry] = []
        corrections: list[Entry] = []
        for entry in merge_lists(data.entries, ()):
            if entry.origin == self._us:
                ours = self._contradiction(entry, now)
                if ours is not None:
                    corrections.append(ours)
                    entry = ours
            elif entry.origin not in self._known:
                continue
            if entry.is_plausible:
                valid.append(entry)
        return data, Received(valid, self.entries.merge(valid), corrections)

    def _contradiction(self, theirs: Entry, now: int) -> Entry | None:
        """Give what is to be said instead of an entry of our earlier life; None if it may stand."""
        if not theirs.is_plausible:
            return None
        ours = self.entries.get(theirs.identity)
        if ours is None:
            return None if theirs.tombstone else theirs._replace(version=theirs.version + 1, tombstone=now)
        if theirs.version > ours.version or (theirs.version == ours.version and theirs.tombstone != ours.tombstone):
            return ours._replace(version=theirs.version + 1)
        return None
