"""Relaying of channels that this node does not know, so that a mesh of mixed versions stays whole."""

from collections import OrderedDict
from collections.abc import Iterable

from plait.mesh.gossip import GossipData
from plait.mesh.name import PeerName

# Payloads remembered per gossip interval to tell echoes from news. Every peer may send one per interval and channel;
# 1024 covers a large mesh, and forgetting one costs only a repeated message.
MAX_REMEMBERED = 1024
# Opaque payloads cannot be merged, so a slow neighbour would collect them without end; the oldest are dropped.
MAX_WAITING_PAYLOADS = 256


class OpaqueNews:
    """Payloads passed on unchanged."""

    def __init__(self, payloads: tuple[bytes, ...]) -> None:
        self._payloads = payloads[-MAX_WAITING_PAYLOADS:]

    def merged(self, newer: GossipData) -> GossipData:
        """Give both lists, older first."""
        return OpaqueNews((*self._payloads, *newer.encode()))

    def encode(self) -> Iterable[bytes]:
        """Give the payloads as they came."""
        return self._payloads


class Surrogate:
    """Stands in for the owner of an unknown channel: passes news on once, keeps nothing."""

    def __init__(self, interval: float) -> None:
        self._interval = interval
        self._seen: OrderedDict[bytes, float] = OrderedDict()

    def everything(self) -> GossipData | None:
        """Nothing of our own to say."""
        return None

    def receive(self, payload: bytes, now: float) -> GossipData | None:
        """Pass on what was not seen within the last gossip interval."""
        while self._seen and next(iter(self._seen.values())) <= now - self._interval:
            self._seen.popitem(last=False)
        if payload in self._seen:
            return None
        self._seen[payload] = now
        if len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)
        return OpaqueNews((payload,))

    def receive_broadcast(self, source: PeerName, payload: bytes, now: float) -> GossipData | None:
        """Always pass on along the tree."""
        return OpaqueNews((payload,))

    def receive_unicast(self, source: PeerName, payload: bytes, now: float) -> None:
        """A message for a service that is not here."""
