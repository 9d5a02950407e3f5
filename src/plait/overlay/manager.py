"""The overlays of this node's connections: drives sessions, timers and the pump. Decides nothing itself."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from plait.errors import PlaitError
from plait.mesh import messages
from plait.mesh.events import ConnectionId
from plait.mesh.links import Link
from plait.mesh.name import PeerName
from plait.mesh.routes import Routes
from plait.overlay.sleeve import actions as sleeve
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.datagram import FRAGMENTATION_TEST_LENGTH, HEARTBEAT_LENGTH
from plait.overlay.sleeve.plait1.keys import CIPHER_FEATURE, CIPHER_WORDS, agreed_cipher, preferred_cipher
from plait.overlay.sleeve.plait1.session import Plait1Session
from plait.overlay.sleeve.session import (
    FAST_HEARTBEAT,
    FIRST_REPEAT,
    HEARTBEAT_FEATURE,
    OUR_HEARTBEAT_MS,
    SleeveSession,
    agreed_heartbeat,
)
from plait.overlay.sleeve.supervisor import Pump
from plait.overlay.switch import PLAIT1, SLEEVE, Control, OverlaySwitch

INTERFACE_INTERVAL = 5.0
"""Seconds between looks at the MTUs of interfaces: a jumbo frame network that is switched on is used soon."""

Session = SleeveSession | Plait1Session


def our_features() -> dict[str, str]:
    """Give the handshake features of plait's own, which Weave peers ignore."""
    return {HEARTBEAT_FEATURE: str(OUR_HEARTBEAT_MS), CIPHER_FEATURE: CIPHER_WORDS[preferred_cipher()]}


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
    session: Session

    @property
    def overlay(self) -> str:
        """The name of the session's overlay."""
        return PLAIT1 if isinstance(self.session, Plait1Session) else SLEEVE


class OverlayManager:
    """Starts, feeds and stops the overlays of every connection."""

    def __init__(
        self,
        pump: Pump,
        mesh: Mesh,
        ours: Sequence[str],
        path_mtu: Callable[[str, str], int],
        interface_mtus: Callable[[Sequence[str]], list[int | None]],
        warn: Callable[[str], None],
    ) -> None:
        """`ours`: overlays that this node offers, best first.

        `path_mtu` answers (local IP, remote IP) from the kernel's knowledge without sending; raises OSError.
        `interface_mtus` gives the MTU of the interface towards each address, None without a route; called in a thread.
        """
        self._pump = pump
        self._ours = tuple(ours)
        self._interface_mtus = interface_mtus
        self._mesh = mesh
        self._path_mtu = path_mtu
        self._warn = warn
        self._live: dict[ConnectionId, LiveConnection] = {}
        self._by_peer: dict[PeerName, LiveConnection] = {}
        self._timer_moved = asyncio.Event()
        self._interface_asked = asyncio.Event()

    def get(self, connection: ConnectionId) -> LiveConnection | None:
        """Give a live connection."""
        return self._live.get(connection)

    # From the mesh

    def confirmed(self, link: Link) -> None:
        """The connection joined the mesh: start its overlays. The dialling side knows where the peer's UDP port is."""
        switch = OverlaySwitch(self._ours, link.overlays)
        live = LiveConnection(link, switch, _new_session(link, switch))
        self._live[link.id] = live
        self._by_peer[link.peer] = live
        self._set_connection(live)
        self._perform(live, live.session.confirm(_now()))

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
        if incoming is None or incoming.overlay != live.overlay:
            return
        session = live.session
        if isinstance(session, Plait1Session):
            self._perform(live, session.control_received(incoming.tag, incoming.payload))
        else:
            self._perform(live, session.control_received(incoming.tag, incoming.payload, _now()))

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
            case ipc.ProbeReceived(peer, source):
                self._feed_plait1(peer, lambda session: session.probe_received(source, _now()))
            case ipc.ProbeAcknowledged(peer):
                self._feed_plait1(peer, lambda session: session.probe_acknowledged(message, _now()))
            case ipc.MtuHint(peer, mtu):
                self._feed_plait1(peer, lambda session: session.mtu_hint(mtu, _now()))
            case ipc.PacketTooBig(peer):
                self._feed_plait1(peer, lambda session: session.packet_too_big())
                self._feed_sleeve(peer, lambda session: session.packet_too_big(_now()))
            case ipc.SendFailed(peer, errno):
                self._feed_plait1(peer, lambda session: session.send_failed(errno))
                self._feed_sleeve(peer, lambda session: session.send_failed(errno, _now()))
            case ipc.Complaint(text):
                self._warn(text)
            case ipc.Ready() | ipc.Stats():
                pass

    def pump_died(self) -> list[ConnectionId]:
        """Act on the end of a pump, before the next one begins.

        Gives the connections that must be made anew: in Weave's format replay windows and keys cannot be renewed.
        """
        lost = []
        for live in list(self._live.values()):
            if isinstance(live.session, Plait1Session):
                self._perform(live, live.session.pump_died(_now()))
            elif live.link.session_key is not None:
                lost.append(live.link.id)
        return lost

    def _special(self, special: ipc.SpecialReceived) -> None:
        now = _now()
        if special.length == HEARTBEAT_LENGTH and special.uid is not None:
            uid = special.uid
            self._feed_sleeve(special.peer, lambda session: session.heartbeat_received(special.source, uid, now))
        elif special.length == FRAGMENTATION_TEST_LENGTH:
            self._feed_sleeve(special.peer, lambda session: session.fragmentation_test_received(special.all_zero))
        else:
            self._feed_sleeve(special.peer, lambda session: session.mtu_test_received(special.length, now))

    def _feed_sleeve(self, peer: int, step: Callable[[SleeveSession], list[sleeve.Action]]) -> None:
        live = self._by_peer.get(PeerName(peer))
        if live is not None and isinstance(live.session, SleeveSession):
            self._perform(live, step(live.session))

    def _feed_plait1(self, peer: int, step: Callable[[Plait1Session], list[sleeve.Action]]) -> None:
        live = self._by_peer.get(PeerName(peer))
        if live is not None and isinstance(live.session, Plait1Session):
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

    async def watch_interfaces(self) -> None:
        """Tell the sessions the MTUs of their interfaces when they ask and from time to time, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(INTERFACE_INTERVAL):
                    await self._interface_asked.wait()
            except TimeoutError:
                pass
            self._interface_asked.clear()
            sessions = [
                (live, live.session, live.session.remote)
                for live in self._live.values()
                if isinstance(live.session, Plait1Session) and live.session.remote is not None
            ]
            if not sessions:
                continue
            try:
                mtus = await asyncio.to_thread(self._interface_mtus, [remote[0] for _, _, remote in sessions])
            except (PlaitError, OSError) as error:
                self._warn(f"the interfaces towards the peers cannot be looked at ({error}): asked again in a moment")
                continue
            for (live, session, remote), mtu in zip(sessions, mtus, strict=True):
                if session.remote == remote and self._live.get(live.link.id) is live:
                    self._perform(live, session.interface_mtu_known(mtu, _now()))

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
            case sleeve.SendProbe(size):
                self._pump.send(ipc.SendProbe(peer, size))
            case sleeve.QueryInterfaceMtu():
                self._interface_asked.set()
            case sleeve.SetPath(remote, mtu, max_payload, stack_frag):
                self._pump.set_path(peer, remote, mtu, max_payload, stack_frag)
            case sleeve.SetGeneration(generation):
                self._pump.send(ipc.SetGeneration(peer, generation))
            case sleeve.RenewKeys():
                self._set_connection(live)
            case sleeve.Established():
                live.switch.established(live.overlay)
                self._mesh.established(link.id)
            case sleeve.Failed(reason):
                live.switch.failed(live.overlay, reason)
                self._mesh.failed(link.id, reason)

    def _set_connection(self, live: LiveConnection) -> None:
        link, session = live.link, live.session
        self._pump.send(
            ipc.SetConnection(
                peer=link.peer,
                local_ip=link.local_ip,
                key=link.session_key,
                outbound=link.outbound,
                first_sequence=0,
                uid=link.uid,
                overlay=live.overlay,
                cipher=agreed_cipher(link.extra.get(CIPHER_FEATURE)),
                generation=session.generation if isinstance(session, Plait1Session) else 0,
                is_paced=HEARTBEAT_FEATURE not in link.extra,
            )
        )

    def _send_control(self, live: LiveConnection, tag: int, payload: bytes) -> None:
        control = live.switch.outgoing(live.overlay, tag, payload)
        if control is None:
            return
        if control.index is None:
            message: messages.Message = messages.LegacyOverlayControl(tag, payload)
        else:
            message = messages.OverlayControl(control.index, tag, payload)
        self._mesh.send_control(live.link.id, messages.encode(message))

    def _query_path_mtu(self, live: LiveConnection) -> None:
        session = live.session
        remote = session.remote
        if remote is None or not isinstance(session, SleeveSession):
            return
        mtu: int | None
        try:
            mtu = self._path_mtu(live.link.local_ip, remote[0])
        except OSError as error:
            self._warn(f"the kernel knows no path MTU to {remote[0]} ({error.strerror}): is there a route to it?")
            mtu = None
        self._perform(live, session.path_mtu_known(mtu, _now()))


def _new_session(link: Link, switch: OverlaySwitch) -> Session:
    """Begin the best of the common overlays that this node carries in user space."""
    remote_ip, _, remote_port = link.address.rpartition(":")
    remote = (remote_ip, int(remote_port)) if link.outbound else None
    theirs = link.extra.get(HEARTBEAT_FEATURE)
    is_encrypted, interval = link.session_key is not None, agreed_heartbeat(theirs)
    if PLAIT1 in switch.common:
        return Plait1Session(
            connection_uid=link.uid,
            is_encrypted=is_encrypted,
            remote=remote,
            heartbeat_interval=interval,
            first_repeat=FIRST_REPEAT,
        )
    return SleeveSession(
        connection_uid=link.uid,
        is_encrypted=is_encrypted,
        remote=remote,
        heartbeat_interval=interval,
        first_repeat=FAST_HEARTBEAT if theirs is None else FIRST_REPEAT,
    )


def _now() -> float:
    return asyncio.get_running_loop().time()
