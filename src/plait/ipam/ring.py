"""Who owns which part of the address range: a replicated data type that peers gossip whole and merge.

Only the owner changes an entry, by a higher version; an administrator's takeover is the exception. Entries are never
removed, only re-owned. Nothing here knows which addresses of a range are handed out: `space.py` does.
"""

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from plait.ipam.address import Range, text
from plait.ipam.entry import Entry, RingError, bumped, check, distance, unwrapped
from plait.ipam.merge import Merger, Used
from plait.mesh.name import UNKNOWN_PEER, PeerName

TAKEOVER_STEP = 100
"""How far a transfer raises versions, so that it wins over the ordinary changes made meanwhile (spec: ipam 19)."""

RECLAIM_STEP = 1 << 20
"""The same when the peer may come back with versions that nobody here has seen: more than it can change meanwhile."""

GIFT_STEP = 1 << 14
"""The same for a gift that others know of before it is given: an heir may give it while the giver counts on."""

OnUpdate = Callable[[list[Range], list[Range], bool], None]
"""Is told the ranges that a peer owned before and owns now, and whether that peer is we."""


class RingState(NamedTuple):
    """A copy of a ring, as it is gossiped and stored. `peer` is whose copy it is, `seeds` who shared the first one."""

    start: int
    end: int
    peer: PeerName
    entries: tuple[Entry, ...]
    seeds: tuple[PeerName, ...]

    @property
    def limits(self) -> Range:
        """The range that is divided."""
        return Range(self.start, self.end)


class OwnedRange(NamedTuple):
    """A range without wrap-around, for people."""

    range: Range
    peer: PeerName
    version: int


class DifferentSeeds(RingError):
    """The received ring began as another one."""


class DifferentRange(RingError):
    """The received ring divides another range."""


class Ring:
    """Our copy. All ranges are half open; a lone entry owns everything."""

    def __init__(self, limits: Range, us: PeerName, on_update: OnUpdate | None = None) -> None:
        self.limits = limits
        self.us = us
        self.seeds: tuple[PeerName, ...] = ()
        self._on_update = on_update
        self._entries: list[Entry] = []
        self._tokens: list[int] = []
        self._clamped: set[int] = set()
        self._owned: list[Range] | None = []  # ours, as long as it is known to be right

    def __str__(self) -> str:
        lines = [f"Ring [{text(self.limits.start)}, {text(self.limits.end)})"]
        lines += [f"  {text(entry.token)} -> {entry.peer} (v{entry.version})" for entry in self._entries]
        return "\n".join(lines)

    @property
    def entries(self) -> Sequence[Entry]:
        """All entries, ascending."""
        return self._entries

    @property
    def is_empty(self) -> bool:
        """True until the range is divided."""
        return not self._entries

    def state(self) -> RingState:
        """Give a copy to send or to store."""
        return RingState(self.limits.start, self.limits.end, self.us, tuple(self._entries), self.seeds)

    def restore(self, stored: RingState) -> None:
        """Take a stored copy of our own; raises RingError if its entries contradict each other."""
        check(self.limits, stored.entries)
        with self._tracked(self.us):
            self._set(stored.entries)
            self.seeds = stored.seeds

    def owned(self) -> list[Range]:
        """Give our ranges, ascending, neighbours apart."""
        if self._owned is None:
            self._owned = self.owned_by(self.us)
        return list(self._owned)

    def owned_by(self, peer: PeerName) -> list[Range]:
        """Give a peer's ranges, ascending, neighbours apart."""
        tokens = self._tokens
        ends = [*tokens[1:], *tokens[:1]]
        ranges = [Range(entry.token, end) for entry, end in zip(self._entries, ends, strict=True) if entry.peer == peer]
        return unwrapped(self.limits, ranges)

    def all_ranges(self) -> list[OwnedRange]:
        """Give everybody's ranges in order of token; one that goes around the end is two."""
        found = []
        for index, entry in enumerate(self._entries):
            for piece in unwrapped(self.limits, [Range(entry.token, self._next_token(index))]):
                found.append(OwnedRange(piece, entry.peer, entry.version))
        return found

    def owner(self, address: int) -> PeerName:
        """Tell who owns an address inside the limits; UNKNOWN_PEER while the range is not divided."""
        if not self._entries:
            return UNKNOWN_PEER
        return self._entries[bisect_right(self._tokens, address) - 1].peer

    def peers(self) -> set[PeerName]:
        """Give all owners."""
        return {entry.peer for entry in self._entries}

    def claim_for_peers(self, peers: Sequence[PeerName]) -> None:
        """Make the first division among these peers, sorted and without doubles; only while the ring is empty."""
        if self._entries or not peers:
            raise ValueError("a ring is divided once, and among somebody")
        with self._tracked(self.us):
            self._set(list(_divide(*self.limits, peers)))
            self.seeds = tuple(peers)

    def grant(self, start: int, end: int, to: PeerName, step: int = 1) -> None:
        """Make a range of ours another peer's; new tokens begin at version 0. Free counts become upper bounds.

        `step` is what the versions of tokens rise by that change their owner.
        """
        first = bisect_right(self._tokens, start) - 1
        if not self._entries or not self.limits.start <= start < end <= self.limits.end:
            raise ValueError("a grant must lie inside the ring")
        last = max(bisect_left(self._tokens, end), first + 1)
        if any(self._entries[index].peer != self.us for index in range(first, last)):
            raise ValueError("only ranges of our own can be granted")
        with self._tracked(self.us):
            free = min(self._distance(start, self._next_token(first)), end - start)
            before = self._entries[first]
            if before.token == start:
                self._update(first, to, free, step)
            else:
                self._update(first, self.us, self._distance(before.token, start))
                self._insert(Entry(start, to, 0, free))
            following = bisect_right(self._tokens, start)
            while following < len(self._entries) and self._tokens[following] < end:
                entry = self._entries[following]
                self._update(following, to, min(entry.free, self._distance(entry.token, end)), step)
                following += 1
            rest = self.limits.start if end == self.limits.end else end
            position = bisect_left(self._tokens, rest)
            if position == len(self._tokens) or self._tokens[position] != rest:
                room = self._distance(rest, self._tokens[following % len(self._tokens)])
                self._insert(Entry(rest, self.us, 0, room))

    def report_free(self, free: Mapping[int, int], *, is_telling_corrections: bool = False) -> bool:
        """Take the number of free addresses in each of our ranges, by its start; tell whether any was news.

        `is_telling_corrections`: a count that a merge has corrected is news too. Weave's peers do not tell it, and a
        third one that has the old count and the split cannot take the ring until it changes again.
        The part of a wrapped range at the ring's beginning counts for the entry at its other end.
        """
        if not self._entries:
            return False
        counts = dict(free)
        if self._tokens[0] != self.limits.start and self.limits.start in counts:
            counts[self._tokens[-1]] += counts.pop(self.limits.start)
        changed = False
        for start, count in counts.items():
            index = bisect_left(self._tokens, start)
            entry = self._entries[index]
            if entry.free != count or (is_telling_corrections and start in self._clamped):
                self._entries[index] = entry._replace(free=count, version=bumped(entry.version))
                changed = True
        self._clamped.clear()
        return changed

    def transfer(self, giver: PeerName, taker: PeerName, step: int = TAKEOVER_STEP) -> list[Range]:
        """Make all ranges of one peer another's, and give them, as after a removal of that peer."""
        with self._tracked(giver, self.us):
            ranges = self.owned_by(giver)
            self._set(
                [
                    entry._replace(peer=taker, version=bumped(entry.version, step)) if entry.peer == giver else entry
                    for entry in self._entries
                ]
            )
            return ranges

    def merge(self, theirs: RingState, used: Used) -> bool:
        """Merge a received copy; tell whether we learnt anything. Raises RingError, and then it is not taken."""
        with self._tracked(self.us):
            check(theirs.limits, theirs.entries)
            if theirs.seeds and self.seeds and theirs.seeds != self.seeds:
                raise DifferentSeeds("Received ring was seeded differently from ours")
            if theirs.limits != self.limits:
                raise DifferentRange("Received range differs from ours")
            merger = Merger(self.limits, self.us, self._entries, used)
            try:
                merged, is_updated = merger.merge(theirs.entries)
            finally:
                self._entries = merger.mine
            self._clamp(merged)
            try:
                check(self.limits, merged)
            except RingError as error:
                raise RingError(f"Merge of incoming data causes: {error}") from error
            if is_updated:
                self._set(merged)
            else:
                self._entries = merged
            self.seeds = self.seeds or theirs.seeds
            return is_updated

    def candidates(self, wanted: Range, rng: random.Random) -> list[PeerName]:
        """Give the peers that tell of free space around this range, likely ones with much of it first."""
        space: dict[PeerName, int] = {}
        first = max(bisect_right(self._tokens, wanted.start) - 1, 0)
        for entry in self._entries[first : max(bisect_left(self._tokens, wanted.end), first)]:
            if entry.free and entry.peer != self.us:
                space[entry.peer] = space.get(entry.peer, 0) + entry.free
        weights = {peer: free * rng.random() for peer, free in space.items()}
        return sorted(weights, key=weights.__getitem__, reverse=True)

    def heir(self, is_valid: Callable[[PeerName], bool]) -> PeerName | None:
        """Give the first owner other than us that is valid."""
        return next((entry.peer for entry in self._entries if entry.peer != self.us and is_valid(entry.peer)), None)

    def _clamp(self, merged: list[Entry]) -> None:
        """Correct our free counts where an accepted split made our range shorter."""
        for index, entry in enumerate(merged):
            if entry.peer == self.us:
                room = self._distance(entry.token, merged[(index + 1) % len(merged)].token)
                if entry.free > room:
                    merged[index] = entry._replace(free=room)
                    self._clamped.add(entry.token)

    def _set(self, entries: Sequence[Entry]) -> None:
        self._entries = list(entries)
        self._tokens = [entry.token for entry in self._entries]
        self._owned = None

    def _insert(self, entry: Entry) -> None:
        index = bisect_left(self._tokens, entry.token)
        self._tokens.insert(index, entry.token)
        self._entries.insert(index, entry)
        self._owned = None

    def _update(self, index: int, peer: PeerName, free: int, step: int = 1) -> None:
        entry = self._entries[index]
        self._entries[index] = Entry(entry.token, peer, bumped(entry.version, step), free)
        self._owned = None

    def _distance(self, start: int, end: int) -> int:
        return distance(self.limits, start, end)

    def _next_token(self, index: int) -> int:
        return self._tokens[(index + 1) % len(self._tokens)]

    @contextmanager
    def _tracked(self, *peers: PeerName) -> Iterator[None]:
        """Tell the follower what these peers own before and after, also if nothing changed."""
        on_update = self._on_update
        if on_update is None:
            yield
            return
        before = [self.owned_by(peer) for peer in peers]
        try:
            yield
        finally:
            for peer, ranges in zip(peers, before, strict=True):
                on_update(ranges, self.owned_by(peer), peer == self.us)


def _divide(start: int, end: int, peers: Sequence[PeerName]) -> Iterator[Entry]:
    """Halve the range and the list of peers until one of them is left."""
    share = end - start
    if share == 0:
        return
    if share == 1 or len(peers) == 1:
        yield Entry(start, peers[0], 0, share)
        return
    middle = start + share // 2
    yield from _divide(start, middle, peers[: len(peers) // 2])
    yield from _divide(middle + share % 2, end, peers[len(peers) // 2 :])
