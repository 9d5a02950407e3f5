"""Who owns which of the 4096 short IDs of the mesh; only the fast datapath uses them.

Several peers may claim one ID for a while: the lowest name owns it and the others choose anew (each does so itself).
"""

import random
from bisect import bisect_left, insort

from plait.mesh.name import PeerName

SHORT_IDS = 1 << 12  # two of them fit a VXLAN network identifier of 24 bits

# Draws before all free IDs are listed: almost always enough, and far cheaper.
_RANDOM_DRAWS = 10


class ShortIds:
    """Claims of short IDs, at most one per peer and ID. IDs outside 0..4095 take no part."""

    def __init__(self) -> None:
        # An empty list stays behind for an ID that was used before.
        self._claimants: dict[int, list[PeerName]] = {}
        self._changed: set[int] = set()

    def owner(self, short_id: int) -> PeerName | None:
        """Give the peer that frames with this ID come from or go to."""
        claimants = self._claimants.get(short_id)
        return claimants[0] if claimants else None

    def claimants(self, short_id: int) -> tuple[PeerName, ...]:
        """Give all peers that claim the ID; the first is the owner."""
        return tuple(self._claimants.get(short_id, ()))

    def claim(self, short_id: int | None, name: PeerName) -> None:
        """Enter a peer's claim; without ID, or with the same claim again, nothing happens."""
        if short_id is None or not 0 <= short_id < SHORT_IDS:
            return
        was_used = short_id in self._claimants
        claimants = self._claimants.setdefault(short_id, [])
        if name in claimants:
            return
        insort(claimants, name)
        if was_used and claimants[0] == name:
            self._changed.add(short_id)

    def release(self, short_id: int | None, name: PeerName) -> None:
        """Take a peer's claim back; without such a claim nothing happens."""
        claimants = self._claimants.get(short_id, []) if short_id is not None else []
        place = bisect_left(claimants, name)
        if place == len(claimants) or claimants[place] != name:
            return
        del claimants[place]
        if place == 0 and claimants and short_id is not None:
            self._changed.add(short_id)

    def choose(self, rng: random.Random) -> int | None:
        """Pick a free ID at random; None if every ID is claimed."""
        for _ in range(_RANDOM_DRAWS):
            short_id = rng.randrange(SHORT_IDS)
            if not self._claimants.get(short_id):
                return short_id
        free = [short_id for short_id in range(SHORT_IDS) if not self._claimants.get(short_id)]
        return rng.choice(free) if free else None

    def take_changes(self) -> frozenset[int]:
        """Give and forget the IDs that now mean another peer than they once did: cached keys for them are wrong.

        First use of an ID is no change, nor is its disuse; use after disuse is.
        """
        taken, self._changed = frozenset(self._changed), set()
        return taken
