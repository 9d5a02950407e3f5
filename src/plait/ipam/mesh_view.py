"""The mesh as address allocation sees it: whom it knows and can reach, and how to send."""

from collections.abc import Callable

from plait.ipam.initial import Initial, quorum
from plait.ipam.service import CHANNEL
from plait.mesh.gossip import GossipData
from plait.mesh.name import PeerName
from plait.mesh.router import Router


class MeshView:
    """Implements `ipam.service.Mesh`. `unresolved` counts the targets that have no address yet."""

    def __init__(self, router: Router, initial: Initial, unresolved: Callable[[], int], flush: Callable[[], None]):
        self._router = router
        self._initial = initial
        self._unresolved = unresolved
        self.flush = flush

    def is_known(self, peer: PeerName) -> bool:
        """Tell whether the peer is in the mesh."""
        return peer in self._router.peers

    def why_unreachable(self, peer: PeerName) -> str | None:
        """Give Weave's words for a peer that there is no way to."""
        next_hop = self._router.routes.unicast_all(peer)
        is_reachable = next_hop is not None and self._router.links.to(next_hop) is not None
        return None if is_reachable else f"unknown relay destination: {peer}"

    def quorum(self) -> int:
        """Give the votes that decide; targets that turned out to be this node do not count."""
        return quorum(self._initial.peer_count, self._router.maker.voters() + self._unresolved())

    def unicast(self, peer: PeerName, payload: bytes) -> None:
        """Send; what cannot be sent now is asked for again."""
        self._router.unicast(CHANNEL, peer, payload)

    def broadcast(self, news: GossipData) -> None:
        """Send to all."""
        self._router.broadcast(CHANNEL, news)
