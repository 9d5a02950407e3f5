"""Between mesh and overlays: what each tells the other, and what of that people should know."""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from plait.chronicle import Chronicle
from plait.history import Kind
from plait.mesh import events
from plait.mesh.addresses import ip_of
from plait.mesh.events import ConnectionId
from plait.mesh.links import Link
from plait.mesh.name import PeerName
from plait.mesh.router import Router
from plait.mesh.transport import Transport
from plait.overlay.manager import OverlayManager
from plait.overlay.switch import BestChanged
from plait.troubles import SHOWN_SECONDS, Troubles

MAX_LOST = 100
"""Peers remembered of those whose connections broke."""

_log = logging.getLogger("plait")


@dataclass(frozen=True, slots=True)
class Lost:
    """A peer whose connection broke: its label, the sentence about that, and when it was."""

    label: str
    why: str
    at: float


class Liaison:
    """Implements `plait.overlay.manager.Mesh`. `transport` and `overlays` are set before anything happens."""

    transport: Transport
    overlays: OverlayManager

    def __init__(self, router: Router, troubles: Troubles, chronicle: Chronicle) -> None:
        self._router = router
        self._troubles = troubles
        self._chronicle = chronicle
        self._known = {router.our_name}
        self.has_met = False
        """A connection with another peer stood once."""
        self.lost: dict[PeerName, Lost] = {}
        """The peers whose last connection broke, or ended when they were silent, and that have not come back."""
        self.on_peer_gone: list[Callable[[PeerName], None]] = []
        """Called with the name of each peer that left the mesh."""

    # What the overlays tell

    def send_control(self, connection: ConnectionId, message: bytes) -> None:
        """Send an encoded overlay control message."""
        self._router.send_control(connection, message)
        self.transport.flush()

    def established(self, connection: ConnectionId) -> None:
        """Frames pass on a connection."""
        self._router.connection_established(connection, _now())
        self.transport.flush()
        link = self._router.links.get(connection)
        if link is not None:
            live = self.overlays.get(connection)
            by = "" if live is None else f" by {live.switch.best}"
            what = f"frames pass on the connection with {self._router.peers.label(link.peer)} at {link.address}{by}"
            self._note(Kind.CONNECTION_UP, what, link.peer)
            self.lost.pop(link.peer, None)
            for trouble in ("pending", "lost"):
                self._troubles.clear(f"{trouble} {link.peer}")

    def failed(self, connection: ConnectionId, reason: str) -> None:
        """No overlay is left on a connection."""
        self._router.overlay_failed(connection, reason, _now())
        self.transport.flush()

    def overlay_changed(self, link: Link, change: BestChanged) -> None:
        """Frames go by another overlay. A fall must be seen: Weave fell to the slow path without a word."""
        what = f"frames for {self._router.peers.label(link.peer)} go by {change.overlay}: {change.reason}"
        level = logging.WARNING if change.is_fall else logging.INFO
        self._note(Kind.OVERLAY_CHANGED, what, link.peer, level)

    # What the mesh tells

    def on_event(self, event: events.Event) -> None:
        """Pass on what happens in the mesh."""
        match event:
            case events.ConnectionConfirmed(connection, peer):
                link = self._router.links.get(connection)
                if link is not None:
                    self.has_met = True
                    _log.info("connection to %s at %s added", self._router.peers.label(peer), link.address)
                    self._troubles.clear(f"refused {ip_of(link.address)}")
                    self.overlays.confirmed(link)
            case events.ConnectionRemoved(connection):
                self._on_removal(event)
                self.overlays.removed(connection)
            case events.ControlReceived(connection, message):
                self.overlays.control_received(connection, message)
            case events.RoutesChanged():
                peers = self._router.peers
                self.overlays.routes_changed(self._router.our_name, peers.owned_short_ids(), peers, self._router.routes)
                self._greet()
            case events.PeerForgotten(peer):
                self._known.discard(peer.name)
                what = f"peer {peer.name}({peer.summary.nickname}) left the mesh"
                self._chronicle.note(Kind.PEER_LEFT, what, peer=peer.name, nickname=peer.summary.nickname)
                self.overlays.host.peer_gone(peer.name, peer.summary.short_id, peer.summary.nickname)
                for tell in self.on_peer_gone:
                    tell(peer.name)
            case events.Notice(text, is_warning):
                if is_warning:
                    self._troubles.warn(text)
                else:
                    _log.info("%s", text)

    def on_refusal(self, remote_ip: str, sentence: str) -> None:
        """A handshake failed."""
        what = f"no connection with {remote_ip}: {sentence}"
        cure = "put that right on one of the two; the connection is tried again by itself"
        self._troubles.report(
            f"refused {remote_ip}", what, cure, SHOWN_SECONDS, varies=True, kind=Kind.CONNECTION_REFUSED
        )

    def _on_removal(self, removed: events.ConnectionRemoved) -> None:
        peer = removed.peer
        sentence = f"the connection with {removed.label} at {removed.address} ended: {removed.reason}"
        self._troubles.clear(f"pending {peer}")
        self.lost.pop(peer, None)
        live = self.overlays.get(removed.connection)
        if removed.is_fault or (live is not None and live.is_silent(_now())):
            if len(self.lost) >= MAX_LOST:
                del self.lost[next(iter(self.lost))]
            self.lost[peer] = Lost(removed.label, sentence, _now())
        if removed.is_fault:
            self._troubles.report(
                f"lost {peer}", sentence, "", SHOWN_SECONDS, varies=True, peer=peer, kind=Kind.CONNECTION_DOWN
            )
        else:
            self._note(Kind.CONNECTION_DOWN, sentence, peer)

    def _greet(self) -> None:
        """Tell of peers that are new in the mesh."""
        names = set(self._router.peers)
        for name in names - self._known:
            self._note(Kind.PEER_JOINED, f"peer {self._router.peers.label(name)} is in the mesh", name)
        self._known = names

    def _note(self, kind: Kind, what: str, peer: PeerName, level: int = logging.INFO) -> None:
        record = self._router.peers.get(peer)
        nickname = "" if record is None else record.summary.nickname
        self._chronicle.note(kind, what, peer=peer, nickname=nickname, level=level)


def _now() -> float:
    return asyncio.get_running_loop().time()
