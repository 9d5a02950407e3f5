"""The overlays of this node's connections: drives sleeve sessions, timers and the pump. Decides nothing itself."""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from plait.mesh import messages
from plait.mesh.events import ConnectionId
from plait.mesh.links import Link
from plait.mesh.name import PeerName
from plait.mesh.routes import Routes
from plait.overlay.sleeve import actions as sleeve
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.datagram import FRAGMENTATION_TEST_LENGTH, HEARTBEAT_LENGTH
from plait.overlay.sleeve.session import (
    FAST_HEARTBEAT,
    FIRST_REPEAT,
    HEARTBEAT_FEATURE,
    OUR_HEARTBEAT_MS,
    SleeveSession,
    agreed_heartbeat,
)
from plait.overlay.sleeve.supervisor import Pump
from plait.overlay.switch import SLEEVE, Control, OverlaySwitch

OUR_OVERLAYS = (SLEEVE,)
"""What this node announces, best first. The order of names shared with Weave must be Weave's."""
OUR_FEATURES = {HEARTBEAT_FEATURE: str(OUR_HEARTBEAT_MS)}
"""Handshake features of plait's own, which Weave peers ignore."""


class Mesh(Protocol):
    """What the overlays tell the mesh."""

    def send_control(self, connection: ConnectionId, message: bytes) -> None:
        """Send an encoded control message to the other end."""

    def established(self, connection: ConnectionId) -> None:
        """Frames pass in both directions."""

    def failed(self, connection: ConnectionId, reason: str) -> None:
        """No overlay is left on the connection."""


@dataclass(slots=True)
class LiveConnection:
    """A connection with its overlays."""

    link: Link
    switch: OverlaySwitch
    session: SleeveSession


class OverlayManager:
    """Starts, feeds and stops the overlays of every connection."""

    def __init__(
        self, pump: Pump, mesh: Mesh, path_mtu: Callable[[str, str], int], warn: Callable[[str], None]
    ) -> None:
        """`path_mtu` answers (local IP, remote IP) from the kernel's knowledge without sending; raises OSError."""
        self._pump = pump
        self._mesh = mesh
        self._path_mtu = path_mtu
        self._warn = warn
        self._live: dict[ConnectionId, LiveConnection] = {}
        self._by_peer: dict[PeerName, LiveConnection] = {}
        self._timer_moved = asyncio.Event()

    def get(self, connection: ConnectionId) -> LiveConnection | None:
        """Give a live connection."""
        return self._live.get(connection)

    # From the mesh

    def confirmed(self, link: Link) -> None:
        """The connection joined the mesh: start its overlays. The dialling side knows where the peer's UDP port is."""
        remote_ip, _, remote_port = link.address.rpartition(":")
        their_heartbeat = link.extra.get(HEARTBEAT_FEATURE)
        session = SleeveSession(
            connection_uid=link.uid,
            is_encrypted=link.session_key is not None,
            remote=(remote_ip, int(remote_port)) if link.outbound else None,
            heartbeat_interval=agreed_heartbeat(their_heartbeat),
            first_repeat=FAST_HEARTBEAT if their_heartbeat is None else FIRST_REPEAT,
        )
        live = LiveConnection(link, OverlaySwitch(OUR_OVERLAYS, link.overlays), session)
        self._live[link.id] = live
        self._by_peer[link.peer] = live
        self._pump.set_connection(link.peer, link.local_ip, link.session_key, link.outbound)
        self._perform(live, session.confirm(_now()))

    def removed(self, connection: ConnectionId) -> None:
        """The connection left the mesh."""
        live = self._live.pop(connection, None)
        if live is None:
            return
        live.session.stop()
        if self._by_peer.get(live.link.peer) is live:
            del self._by_peer[live.link.peer]
            self._pump.remove_connection(live.link.peer)

    def control_received(
        self, connection: ConnectionId, message: messages.OverlayControl | messages.LegacyOverlayControl
    ) -> None:
        """An overlay control message came in over TCP."""
        live = self._live.get(connection)
        if live is None:
            return
        index = message.index if isinstance(message, messages.OverlayControl) else None
        incoming = live.switch.incoming(Control(index, message.tag, message.payload))
        if incoming is not None and incoming.overlay == SLEEVE:
            self._perform(live, live.session.control_received(incoming.tag, incoming.payload, _now()))

    def routes_changed(self, known: Iterable[PeerName], routes: Routes) -> None:
        """The pump must know all peers, next hops and broadcast trees."""
        known = list(known)
        self._pump.set_routes(
            known=[int(name) for name in known],
            unicast={int(destination): int(via) for destination, via in routes.unicast_table().items() if via},
            broadcast={int(source): [int(hop) for hop in routes.broadcast(source)] for source in known},
        )

    # From the pump

    def pump_said(self, message: ipc.FromPump) -> None:
        """Act on a message of the pump."""
        match message:
            case ipc.SpecialReceived():
                self._special(message)
            case ipc.PacketTooBig(peer):
                self._feed(peer, lambda session: session.packet_too_big(_now()))
            case ipc.SendFailed(peer, errno):
                self._feed(peer, lambda session: session.send_failed(errno, _now()))
            case ipc.Complaint(text):
                self._warn(text)
            case ipc.Ready() | ipc.Stats():
                pass

    def _special(self, special: ipc.SpecialReceived) -> None:
        now = _now()
        if special.length == HEARTBEAT_LENGTH and special.uid is not None:
            uid = special.uid
            self._feed(special.peer, lambda session: session.heartbeat_received(special.source, uid, now))
        elif special.length == FRAGMENTATION_TEST_LENGTH:
            self._feed(special.peer, lambda session: session.fragmentation_test_received(special.all_zero))
        else:
            self._feed(special.peer, lambda session: session.mtu_test_received(special.length, now))

    def _feed(self, peer: int, step: Callable[[SleeveSession], list[sleeve.Action]]) -> None:
        live = self._by_peer.get(PeerName(peer))
        if live is not None:
            self._perform(live, step(live.session))

    # Timers

    async def run_timers(self) -> None:
        """Wake the sessions when they ask for it, until cancelled."""
        while True:
            self._timer_moved.clear()
            deadlines = [live.session.next_deadline() for live in self._live.values()]
            try:
                async with asyncio.timeout_at(min((when for when in deadlines if when is not None), default=None)):
                    await self._timer_moved.wait()
            except TimeoutError:
                now = _now()
                for live in list(self._live.values()):
                    deadline = live.session.next_deadline()
                    if deadline is not None and deadline <= now:
                        self._perform(live, live.session.handle_timer(now))

    # Acting

    def _perform(self, live: LiveConnection, actions: list[sleeve.Action]) -> None:
        for action in actions:
            self._perform_one(live, action)
        self._timer_moved.set()

    def _perform_one(self, live: LiveConnection, action: sleeve.Action) -> None:
        link, peer = live.link, live.link.peer
        match action:
            case sleeve.SendControl(tag, payload):
                self._send_control(live, tag, payload)
            case sleeve.SendHeartbeat():
                self._pump.send(ipc.SendSpecial(peer, HEARTBEAT_LENGTH, link.uid, df=True))
            case sleeve.SendFragmentationTest():
                self._pump.send(ipc.SendSpecial(peer, FRAGMENTATION_TEST_LENGTH, None, df=False))
            case sleeve.SendMtuTest(length):
                self._pump.send(ipc.SendSpecial(peer, length, None, df=True))
            case sleeve.QueryPathMtu():
                self._query_path_mtu(live)
            case sleeve.SetPath(remote, mtu, max_payload, stack_frag):
                self._pump.set_path(peer, remote, mtu, max_payload, stack_frag)
            case sleeve.Established():
                live.switch.established(SLEEVE)
                self._mesh.established(link.id)
            case sleeve.Failed(reason):
                live.switch.failed(SLEEVE, reason)
                self._mesh.failed(link.id, reason)

    def _send_control(self, live: LiveConnection, tag: int, payload: bytes) -> None:
        control = live.switch.outgoing(SLEEVE, tag, payload)
        if control is None:
            return
        if control.index is None:
            message: messages.Message = messages.LegacyOverlayControl(tag, payload)
        else:
            message = messages.OverlayControl(control.index, tag, payload)
        self._mesh.send_control(live.link.id, messages.encode(message))

    def _query_path_mtu(self, live: LiveConnection) -> None:
        remote = live.session.remote
        if remote is None:
            return
        mtu: int | None
        try:
            mtu = self._path_mtu(live.link.local_ip, remote[0])
        except OSError as error:
            self._warn(f"the kernel knows no path MTU to {remote[0]} ({error.strerror}): is there a route to it?")
            mtu = None
        self._perform(live, live.session.path_mtu_known(mtu, _now()))


def _now() -> float:
    return asyncio.get_running_loop().time()
