"""An entry of the ring, and what every list of entries must satisfy."""

from collections.abc import Sequence
from typing import NamedTuple

from plait.errors import PlaitError
from plait.ipam.address import Range, text
from plait.mesh.name import PeerName


class RingError(PlaitError):
    """A ring that cannot be taken. The texts are Weave's (spec: ipam 4.1, 5): operators know them from its status."""


class Entry(NamedTuple):
    """Addresses from `token` up to the next entry's token: their owner, the version of that, and how many are free."""

    token: int
    peer: PeerName
    version: int
    free: int

    def is_same(self, other: "Entry") -> bool:
        """Compare all but the free count, which changes without anybody changing hands."""
        return self[:3] == other[:3]


MAX_VERSION = 0xFFFFFFFF
"""The wire's limit. A version stays there: one that went around to 0 would lose against every copy of it."""


def bumped(version: int, by: int = 1) -> int:
    """Give the version after a change."""
    return min(version + by, MAX_VERSION)


def distance(limits: Range, start: int, end: int) -> int:
    """Count the addresses from one token to another around the ring; from a token to itself it is the whole ring."""
    return end - start if end > start else limits.end - start + end - limits.start


def unwrapped(limits: Range, ranges: list[Range]) -> list[Range]:
    """Cut the last of these ranges in two, in ascending order, if it goes around the ring's end. Changes the list."""
    if not ranges:
        return ranges
    start, end = ranges[-1]
    if end == limits.start:
        ranges[-1] = Range(start, limits.end)
    elif end <= start:
        ranges[-1] = Range(start, limits.end)
        ranges.insert(0, Range(limits.start, end))
    return ranges


def check(limits: Range, entries: Sequence[Entry]) -> None:
    """Raise RingError unless the entries ascend inside the limits and none tells more free space than it has."""
    tokens = [entry.token for entry in entries]
    if any(map(int.__gt__, tokens, tokens[1:])):
        raise RingError("Ring not sorted")
    if any(map(int.__eq__, tokens, tokens[1:])):
        raise RingError("Token appears twice in ring")
    if not entries:
        return
    if tokens[0] < limits.start or tokens[-1] >= limits.end:
        raise RingError("Token is out of range")
    for entry, following in zip(entries, [*tokens[1:], tokens[0]], strict=True):
        room = distance(limits, entry.token, following)
        if entry.free > room:
            raise RingError(
                f"Entry {text(entry.token)}-{text(following)} reporting too much free space: {entry.free} > {room}"
            )
