"""How a received list of ring entries is merged into ours: both are walked in order of their tokens.

Newer versions win, but a peer gives up a range of its own only while it has handed out nothing there (spec: ipam 5).
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from plait.ipam.address import Range, text
from plait.ipam.entry import Entry, RingError, bumped, unwrapped
from plait.mesh.name import PeerName

Used = Callable[[list[Range]], bool]
"""Tells whether any address of these ranges is handed out, or not ours."""


class Merged(NamedTuple):
    """The new list, and whether anything of theirs was taken into it."""

    entries: list[Entry]
    is_updated: bool


class Merger:
    """One merge. `mine` keeps version bumps of own entries even if the merge fails, as peers on the wire do."""

    def __init__(self, limits: Range, us: PeerName, mine: Sequence[Entry], used: Used) -> None:
        self.mine = list(mine)
        self._limits = limits
        self._us = us
        self._used = used
        self._result: list[Entry] = []
        self._is_updated = False
        # True right behind an entry of ours that was taken from our list: a foreign token there would split our range.
        self._is_in_ours = False

    def merge(self, theirs: Sequence[Entry]) -> Merged:
        """Give the merged list; raises RingError if theirs gives away what we use."""
        mine, count, index = self.mine, len(self.mine), 0
        for position, entry in enumerate(theirs):
            while index < count and mine[index].token < entry.token:
                self._keep(mine[index])
                index += 1
            if index == count:
                self._append(theirs[position:])
                break
            if mine[index].token == entry.token:
                self._meet(index, entry)
                index += 1
            else:
                self._insert(entry, before=mine[index].token)
        self._result += mine[index:]
        return Merged(self._result, self._is_updated)

    def _keep(self, entry: Entry) -> None:
        self._result.append(entry)
        self._is_in_ours = entry.peer == self._us

    def _take(self, entry: Entry) -> None:
        self._result.append(entry)
        self._is_updated = True
        self._is_in_ours = False

    def _insert(self, theirs: Entry, before: int) -> None:
        if self._is_in_ours and theirs.peer != self._us and self._is_used(theirs.token, before):
            raise _in_our_range(theirs)
        self._take(theirs)

    def _append(self, rest: Sequence[Entry]) -> None:
        for entry in rest:
            if self._is_in_ours and entry.peer != self._us:
                raise _in_our_range(entry)
            self._take(entry)

    def _meet(self, index: int, theirs: Entry) -> None:
        """Choose between two entries of one token."""
        mine = self.mine[index]
        if theirs.version < mine.version or theirs.is_same(mine):
            self._keep(mine)
            return
        is_ours = mine.peer == self._us
        if theirs.version == mine.version:
            if is_ours and self._is_entry_used(index):
                raise RingError(
                    f"Inconsistent entries for {text(mine.token)}: "
                    f"owned by {mine.peer} but incoming message says {theirs.peer}"
                )
            if theirs.free > mine.free:
                self._take(theirs)
            else:
                self._keep(mine)
        elif is_ours and theirs.peer == self._us:
            # Somebody remembers more of us than we do: impose what we know now on all who saw the newer version.
            self.mine[index] = mine._replace(version=bumped(theirs.version))
            self._result.append(self.mine[index])
        elif is_ours and self._is_entry_used(index):
            raise RingError(
                f"Received update for IP range I own at {text(mine.token)} v{mine.version}: "
                f"incoming message says owner {theirs.peer} v{theirs.version}"
            )
        else:
            self._take(theirs)

    def _is_entry_used(self, index: int) -> bool:
        return self._is_used(self.mine[index].token, self.mine[(index + 1) % len(self.mine)].token)

    def _is_used(self, start: int, end: int) -> bool:
        return self._used(unwrapped(self._limits, [Range(start, end)]))


def _in_our_range(theirs: Entry) -> RingError:
    return RingError(f"Peer {theirs.peer} says it owns the IP range from {text(theirs.token)}, which I think I own")
