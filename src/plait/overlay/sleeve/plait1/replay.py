"""Which datagrams of an encrypted connection came before: a bit for each index of the newest sequences."""

WINDOW = 4096
"""Sequences: 256 MB of super-frames, or as many small datagrams; memory is 400 kB for each neighbour when full."""

TOO_OLD = (1 << 256) - 1
"""All bits set: as if everything of such a sequence had come."""


class ReplayWindow:
    """Ask `seen` before, tell `add` after authentication. A bit of a mask stands for an index."""

    def __init__(self) -> None:
        self.highest = -1
        self._seen: dict[int, int] = {}

    def seen(self, sequence: int) -> int:
        """Give the indices of a sequence that came already, as a mask; TOO_OLD below the window."""
        if sequence <= self.highest - WINDOW:
            return TOO_OLD
        return self._seen.get(sequence, 0)

    def add(self, sequence: int, mask: int) -> None:
        """Remember indices that were authenticated and are delivered."""
        seen = self._seen
        seen[sequence] = seen.get(sequence, 0) | mask
        if sequence > self.highest:
            self.highest = sequence
            if len(seen) >= 2 * WINDOW:
                self._forget()

    def _forget(self) -> None:
        floor = self.highest - WINDOW
        self._seen = {sequence: mask for sequence, mask in self._seen.items() if sequence > floor}
