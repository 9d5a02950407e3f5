"""The addresses that this peer owns: which are handed out, which are free. Two sets that never overlap.

Sets are kept as sorted, joined half-open ranges, so a peer with a million free addresses needs a few numbers.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from plait.errors import PlaitError
from plait.ipam.address import Range, glued, text


class SpaceError(PlaitError):
    """An address is not in the set that it should be in. The texts are Weave's (spec: ipam 3)."""


class AddressSet:
    """A set of addresses as joined ranges."""

    def __init__(self, ranges: Iterable[Range] = ()) -> None:
        pieces = glued(ranges)
        self._starts = [piece.start for piece in pieces]
        self._ends = [piece.end for piece in pieces]

    def __iter__(self) -> Iterator[Range]:
        return map(Range, self._starts, self._ends)

    def __contains__(self, address: object) -> bool:
        if not isinstance(address, int):
            return False
        index = bisect_right(self._starts, address) - 1
        return index >= 0 and address < self._ends[index]

    def add(self, piece: Range) -> None:
        """Put in a range; what is in already stays."""
        first = bisect_left(self._ends, piece.start)
        last = bisect_right(self._starts, piece.end)
        start, end = piece
        if first < last:
            start, end = min(start, self._starts[first]), max(end, self._ends[last - 1])
        self._starts[first:last] = [start]
        self._ends[first:last] = [end]

    def remove(self, piece: Range) -> None:
        """Take out a range; what is not in does not matter."""
        first = bisect_right(self._ends, piece.start)
        last = bisect_left(self._starts, piece.end)
        if first >= last:
            return
        starts, ends = [], []
        if self._starts[first] < piece.start:
            starts.append(self._starts[first])
            ends.append(piece.start)
        if self._ends[last - 1] > piece.end:
            starts.append(piece.end)
            ends.append(self._ends[last - 1])
        self._starts[first:last] = starts
        self._ends[first:last] = ends

    def within(self, limits: Range) -> Iterator[Range]:
        """Give the pieces cut to these limits, ascending; limits that end before they start hold nothing."""
        index = bisect_right(self._ends, limits.start)
        while limits.size > 0 and index < len(self._starts) and self._starts[index] < limits.end:
            yield Range(max(self._starts[index], limits.start), min(self._ends[index], limits.end))
            index += 1

    def count(self, limits: Range) -> int:
        """Count the members inside these limits."""
        return sum(piece.size for piece in self.within(limits))

    @property
    def size(self) -> int:
        """Count all members."""
        return sum(self._ends) - sum(self._starts)


class Space:
    """What this peer may hand out. `ours` is handed out, `free` is not."""

    def __init__(self, free: Iterable[Range] = (), ours: Iterable[Range] = ()) -> None:
        self.free = AddressSet(free)
        self.ours = AddressSet(ours)

    def allocate(self, limits: Range) -> int | None:
        """Hand out the lowest free address inside the limits; None if there is none."""
        piece = next(self.free.within(limits), None)
        if piece is None:
            return None
        self.claim(piece.start)
        return piece.start

    def claim(self, address: int) -> None:
        """Hand out this address; raises SpaceError unless it is free."""
        if address not in self.free:
            raise SpaceError(f"Address {text(address)} is not free to claim")
        self.free.remove(Range(address, address + 1))
        self.ours.add(Range(address, address + 1))

    def release(self, address: int) -> None:
        """Take back this address; raises SpaceError if it was not handed out."""
        if address not in self.ours:
            raise SpaceError(f"Address {text(address)} is not ours")
        self.ours.remove(Range(address, address + 1))
        self.free.add(Range(address, address + 1))

    def add(self, owned: Iterable[Range]) -> None:
        """Make free what of these ranges is in neither set; removes nothing."""
        for piece in owned:
            taken = list(self.ours.within(piece))
            self.free.add(piece)
            for part in taken:
                self.free.remove(part)

    def set_owned(self, owned: Iterable[Range]) -> list[Range]:
        """Own exactly these ranges. The answer is what was handed out and is ours no more: it is in no set now."""
        pieces = glued(owned)
        self.add(pieces)
        lost: list[Range] = []
        position = 0
        for gap_end, next_position in [*pieces, Range(1 << 32, 1 << 32)]:
            gap = Range(position, gap_end)
            lost += self.ours.within(gap)
            self.free.remove(gap)
            self.ours.remove(gap)
            position = next_position
        return lost

    def is_used(self, ranges: Iterable[Range]) -> bool:
        """Tell whether any of these addresses is not free; those that we do not own count as used."""
        return any(self.free.count(piece) != piece.size for piece in ranges)

    def count_free(self, limits: Range) -> int:
        """Count the free addresses inside the limits."""
        return self.free.count(limits)

    def donate(self, limits: Range) -> Range | None:
        """Give away a block of free addresses inside the limits: the biggest aligned one, and of equals the last.

        A block that holds more than half of what is free there loses its upper half only: the giver stays able to
        answer its own containers. None if nothing is free.
        """
        best: Range | None = None
        available = 0
        for piece in self.free.within(limits):
            available += piece.size
            if best is None or piece.size >= best.size:
                block = piece.biggest_block()
                if best is None or block.size >= best.size:
                    best = block
        if best is None:
            return None
        if best.size > 1 and best.size > available // 2:
            best = Range(best.start + best.size // 2, best.end)
        self.free.remove(best)
        return best

    def clear(self) -> None:
        """Own nothing."""
        self.free, self.ours = AddressSet(), AddressSet()

    def owned(self) -> list[Range]:
        """Give the ranges of both sets together, joined."""
        return glued([*self.free, *self.ours])
