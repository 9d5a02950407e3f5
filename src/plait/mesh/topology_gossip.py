"""The `topology` channel: peers' records, always sent as they are at the moment of writing."""

from collections.abc import Callable, Iterable
from functools import lru_cache

from plait.mesh.gossip import GossipData, GossipRefused
from plait.mesh.name import PeerName
from plait.mesh.peers import MergeResult, Peers
from plait.mesh.records import PeerRecord
from plait.mesh.topology import decode_topology, encode_topology

CHANNEL = "topology"

# The same update reaches a node from several neighbours within a second, and neighbours that agree send the same full
# gossip; decoding it once is enough. At most 2 MB of payloads are kept, some 20 MB of records if all are full.
_CACHED_PAYLOADS = 32
_CACHED_PAYLOAD_BYTES = 1 << 16


class TopologyNews:
    """Names of peers whose records are to be sent; None stands for all peers."""

    def __init__(self, peers: Peers, names: frozenset[PeerName] | None) -> None:
        self._peers = peers
        self._names = names

    def merged(self, newer: GossipData) -> GossipData:
        """Give the union of the names."""
        if not isinstance(newer, TopologyNews):
            raise TypeError("topology news merge only with topology news")
        if self._names is None or newer._names is None:
            return TopologyNews(self._peers, None)
        return TopologyNews(self._peers, self._names | newer._names)

    def encode(self) -> Iterable[bytes]:
        """Give one payload with the newest records of the peers still known, in one order at all nodes."""
        return (encode_topology(self._peers.records(sorted(self._peers if self._names is None else self._names))),)


class TopologyGossiper:
    """Merges records into the peer table and tells the router what that changed."""

    def __init__(self, peers: Peers, on_merge: Callable[[MergeResult, float], None]) -> None:
        self._peers = peers
        self._on_merge = on_merge

    def everything(self) -> GossipData | None:
        """All records."""
        return TopologyNews(self._peers, None)

    def receive(self, payload: bytes, now: float) -> GossipData | None:
        """Merge; what improved is news."""
        result = self._merge(payload, now)
        return TopologyNews(self._peers, result.improved) if result.improved else None

    def receive_broadcast(self, source: PeerName, payload: bytes, now: float) -> GossipData | None:
        """Merge; old peers broadcast topology, and relays pass on every name of the update."""
        result = self._merge(payload, now)
        return TopologyNews(self._peers, result.names) if result.names else None

    def receive_unicast(self, source: PeerName, payload: bytes, now: float) -> None:
        """Refuse: topology is never sent to one peer alone."""
        raise GossipRefused(f"peer {source} sent topology as a unicast, which the protocol does not allow")

    def _merge(self, payload: bytes, now: float) -> MergeResult:
        records = _decode_once(payload) if len(payload) <= _CACHED_PAYLOAD_BYTES else decode_topology(payload)
        result = self._peers.merge(records)
        self._on_merge(result, now)
        return result


@lru_cache(_CACHED_PAYLOADS)
def _decode_once(payload: bytes) -> list[PeerRecord]:
    return decode_topology(payload)
