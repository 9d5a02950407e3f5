"""Which way messages and frames go: computed from everybody's records, alike at every peer, hence free of loops.

Two variants. The plain one, for data, uses links that both ends call established; `_all`, for gossip, uses every
connection in the direction of the peer that reports it.
"""

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Self

from plait.mesh.name import UNKNOWN_PEER, PeerName
from plait.mesh.records import PeerRecord

_Graph = Mapping[PeerName, tuple[PeerName, ...]]


class Routes:
    """Routes of one peer at one moment. Broadcast routes of a source are computed when first asked for."""

    def __init__(self, our_name: PeerName, established: _Graph, everything: _Graph) -> None:
        self._data = _Variant(our_name, established)
        self._gossip = _Variant(our_name, everything)
        self._weights = Counter(hop for hop in self._gossip.unicast.values() if hop != UNKNOWN_PEER)

    @classmethod
    def compute(cls, our_name: PeerName, records: Iterable[PeerRecord]) -> Self:
        """Compute routes from all records, our own among them. Connections to peers without record do not count."""
        records = list(records)
        established = {
            record.name: {connection.remote for connection in record.connections if connection.established}
            for record in records
        }
        nobody: set[PeerName] = set()
        return cls(
            our_name,
            {
                name: tuple(remote for remote in remotes if name in established.get(remote, nobody))
                for name, remotes in established.items()
            },
            {
                record.name: tuple(
                    connection.remote for connection in record.connections if connection.remote in established
                )
                for record in records
            },
        )

    def unicast(self, destination: PeerName) -> PeerName | None:
        """Give the next hop of data to a peer: UNKNOWN_PEER if we are the destination, None if there is no way."""
        return self._data.unicast.get(destination)

    def unicast_all(self, destination: PeerName) -> PeerName | None:
        """Give the next hop of gossip to a peer, as `unicast` does for data."""
        return self._gossip.unicast.get(destination)

    def broadcast(self, source: PeerName) -> frozenset[PeerName]:
        """Give the neighbours to which we pass on data that a peer sends to all."""
        return self._data.broadcast(source)

    def broadcast_all(self, source: PeerName) -> frozenset[PeerName]:
        """Give the neighbours to which we pass on gossip that a peer sends to all."""
        return self._gossip.broadcast(source)

    def unicast_table(self) -> dict[PeerName, PeerName]:
        """Give the next hop of data for every reachable peer, ourselves (with UNKNOWN_PEER) included."""
        return dict(self._data.unicast)

    def broadcast_table(self) -> dict[PeerName, frozenset[PeerName]]:
        """Give the broadcast routes of data for the sources asked for so far."""
        return dict(self._data.known_broadcasts)

    def choose_neighbours(self, rng: random.Random, exclude: PeerName | None = None) -> list[PeerName]:
        """Choose about 2 log2(peers) neighbours for gossip, rather those through which many peers are reached.

        `exclude` is the neighbour that the news came from.
        """
        weights = {name: weight for name, weight in self._weights.items() if name != exclude}
        peers = len(self._gossip.unicast)
        wanted = (peers * peers).bit_length() - 1  # floor(2 * log2(peers)), exactly
        if wanted >= len(weights):
            return list(weights)
        return _draw(rng, weights, wanted)


class _Variant:
    """Routes over one kind of links."""

    def __init__(self, our_name: PeerName, links: _Graph) -> None:
        self._our_name = our_name
        self._links = links
        self.unicast = _next_hops(our_name, links)
        self.known_broadcasts: dict[PeerName, frozenset[PeerName]] = {}

    def broadcast(self, source: PeerName) -> frozenset[PeerName]:
        hops = self.known_broadcasts.get(source)
        if hops is None:
            hops = _broadcast_hops(self._our_name, source, self._links)
            if source in self._links:  # any name may be asked for, but only those of peers are remembered
                self.known_broadcasts[source] = hops
        return hops


def _next_hops(our_name: PeerName, links: _Graph) -> dict[PeerName, PeerName]:
    """Search breadth first from ourselves, each level in ascending order of names."""
    hops = {our_name: UNKNOWN_PEER}
    level = [our_name]
    while level:
        reached = []
        for name in sorted(level):
            hop = hops[name]
            for remote in links.get(name, ()):
                if remote not in hops:
                    hops[remote] = remote if name == our_name else hop
                    reached.append(remote)
        level = reached
    return hops


def _broadcast_hops(our_name: PeerName, source: PeerName, links: _Graph) -> frozenset[PeerName]:
    """Search like `_next_hops` but from the source; whoever is seen when our turn comes is served by others.

    The order inside a level only matters in ours: there, peers with lower names have their turn before us.
    """
    seen = {source}
    level = {source}
    while level and our_name not in level:
        level = set[PeerName]().union(*(links.get(name, ()) for name in level)) - seen
        seen |= level
    if not level:
        return frozenset()
    seen.update(*(links.get(name, ()) for name in level if name < our_name))
    return frozenset(links.get(our_name, ())) - seen


def _draw(rng: random.Random, weights: dict[PeerName, int], count: int) -> list[PeerName]:
    """Draw names one after the other, without repetition, each in proportion to its weight among those left."""
    drawn: list[PeerName] = []
    for _ in range(count):
        name = rng.choices(list(weights), list(weights.values()))[0]
        del weights[name]
        drawn.append(name)
    return drawn
