"""The overlays of this node's connections: drives sessions, timers, pump and kernel. Decides nothing itself."""

import asyncio
import errno
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Protocol

from plait.errors import PlaitError
from plait.mesh import messages
from plait.mesh.events import ConnectionId
from plait.mesh.links import Link
from plait.mesh.name import PeerName
from plait.mesh.routes import Routes
from plait.overlay.fastdp import actions as fastdp
from plait.overlay.fastdp.carrier import carrier_of
from plait.overlay.fastdp.control import FastdpControl
from plait.overlay.fastdp.description import KernelView
from plait.overlay.fastdp.plan import Topology
from plait.overlay.fastdp.session import FastdpSession
from plait.overlay.fastdp.wire import parse_heartbeat
from plait.overlay.host_keeper import HostKeeper
from plait.overlay.live import Action, LiveConnection, Session, begin, remote_ip, vxlan_lack, weave_lack
from plait.overlay.sleeve import actions as sleeve
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.datagram import FRAGMENTATION_TEST_LENGTH, HEARTBEAT_LENGTH
from plait.overlay.sleeve.plait1.keys import CIPHER_FEATURE, agreed_cipher
from plait.overlay.sleeve.plait1.session import Plait1Session
from plait.overlay.sleeve.session import HEARTBEAT_FEATURE, SleeveSession
from plait.overlay.sleeve.supervisor import Pump
from plait.overlay.switch import (
    FASTDP,
    BestChanged,
    ConnectionEstablished,
    ConnectionFailed,
    Control,
    Event,
    OverlaySwitch,
)

_log = logging.getLogger(__name__)

INTERFACE_INTERVAL = 5.0
"""Seconds between looks at the MTUs of interfaces: a jumbo frame network that is switched on is used soon."""

_SENDING = (fastdp.SendFrame, sleeve.SendHeartbeat, sleeve.SendProbe, sleeve.SendFragmentationTest, sleeve.SendMtuTest)


class Mesh(Protocol):
    """What the overlays tell the mesh."""

    def send_control(self, connection: ConnectionId, message: bytes) -> None:
        """Send an encoded control message to the other end."""

    def established(self, connection: ConnectionId) -> None:
        """Frames pass in both directions."""

    def failed(self, connection: ConnectionId, reason: str) -> None:
        """No overlay is left on the connection."""

    def overlay_changed(self, link: Link, change: BestChanged) -> None:
        """Frames go by another overlay."""


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
        *,
        kernel: FastdpControl | None = None,
        local_mtu: int = 1500,
        containers: Callable[[], list[bytes]] = list,
        on_containers: Callable[[Iterable[bytes]], None] = lambda macs: None,
    ) -> None:
        """`ours`: overlays that this node offers, best first; fastdp only with a `kernel` that carries frames.

        `local_mtu`: the largest IP packet that a container of this host sends. `on_containers` gets the MAC addresses
        of this host's containers now and then; `containers` finds them where no `kernel` does; called in a thread.
        `path_mtu` answers (local IP, remote IP) from the kernel's knowledge without sending; raises OSError.
        `interface_mtus` gives the MTU of the interface towards each address, None without a route; called in a thread.
        """
        self._pump = pump
        self._ours = tuple(ours)
        self._interface_mtus = interface_mtus
        self._mesh = mesh
        self._path_mtu = path_mtu
        self._warn = warn
        self._kernel = kernel
        self._local_mtu = local_mtu
        self.host = HostKeeper(
            kernel,
            pump.send,
            self._plan,
            warn,
            remotes=lambda: {live.fastdp.remote_ip for live in self._live.values() if live.fastdp is not None},
            containers=containers,
            on_containers=on_containers,
        )
        self._live: dict[ConnectionId, LiveConnection] = {}
        self._by_peer: dict[PeerName, LiveConnection] = {}
        self._timer_moved = asyncio.Event()
        self._interface_asked = asyncio.Event()
        self.falls = 0
        """How often a connection left a better overlay that had worked."""

    def get(self, connection: ConnectionId) -> LiveConnection | None:
        """Give a live connection."""
        return self._live.get(connection)

    @property
    def kernel(self) -> FastdpControl | None:
        """What fills the kernel's tables; None if the kernel carries no frames."""
        return self._kernel

    @property
    def needs_user_space(self) -> bool:
        """Frames for at least one neighbour go by the pump."""
        return any(live.switch.best != FASTDP for live in self._live.values())

    async def describe_kernel(self) -> KernelView | None:
        """Give what the kernel's datapath is now, and the short ids that go with it. Raises PlaitError."""
        kernel = self._kernel
        if kernel is None:
            return None
        return kernel.view(await asyncio.to_thread(kernel.kernel.describe), _now())

    def handed(self) -> dict[str, int]:
        """Give how many packets were handed to the underlay, by remote address: by this node, and by the kernel."""
        counts: Counter[str] = Counter()
        for live in self._live.values():
            remote = next(filter(None, map(remote_ip, live.sessions)), None)
            if remote is not None:
                counts[remote] += live.handed
                short_id = None if self._kernel is None else self._kernel.topology.ids.get(live.link.peer)
                if self._kernel is not None and short_id is not None:
                    counts[remote] += self._kernel.traffic(short_id).sent
        return counts

    # From the mesh

    def confirmed(self, link: Link) -> None:
        """The connection joined the mesh: start its overlays. The dialling side knows where the peer's UDP port is."""
        live = begin(link, OverlaySwitch(self._ours, link.overlays), self._local_mtu)
        self._live[link.id] = live
        self._by_peer[link.peer] = live
        lack = weave_lack(link)
        if live.user is not None:
            self._set_connection(live)
            self._begin(live, live.user, lack)
        if live.fastdp is not None:
            self.host.ask()
            port = None if self._kernel is None else self._kernel.kernel.port
            self._begin(live, live.fastdp, lack or vxlan_lack(link, port))
        self._plan()

    def _begin(self, live: LiveConnection, session: Session, lack: str | None) -> None:
        actions: Sequence[Action] = session.confirm(_now()) if lack is None else session.unavailable(lack)
        self._perform(live, session, actions)

    def removed(self, connection: ConnectionId) -> None:
        """The connection left the mesh."""
        live = self._live.pop(connection, None)
        if live is None:
            return
        for session in live.sessions:
            session.stop()
        if self._by_peer.get(live.link.peer) is live:
            del self._by_peer[live.link.peer]
            self._pump.remove_connection(live.link.peer)
        self._plan()

    def control_received(
        self, connection: ConnectionId, message: messages.OverlayControl | messages.LegacyOverlayControl
    ) -> None:
        """An overlay control message came in over TCP."""
        live = self._live.get(connection)
        if live is None:
            return
        index = message.index if isinstance(message, messages.OverlayControl) else None
        incoming = live.switch.incoming(Control(index, message.tag, message.payload))
        if incoming is None:
            return
        tag, payload = incoming.tag, incoming.payload
        session = live.fastdp if incoming.overlay == FASTDP else live.user
        match session:
            case Plait1Session():
                self._perform(live, session, session.control_received(tag, payload))
            case SleeveSession() | FastdpSession():
                self._perform(live, session, session.control_received(tag, payload, _now()))

    def routes_changed(
        self, us: PeerName, short_ids: dict[PeerName, int], known: Iterable[PeerName], routes: Routes
    ) -> None:
        """Pump and kernel must know all peers, next hops and broadcast trees; `short_ids` are those the peers own."""
        unicast = {destination: via for destination, via in routes.unicast_table().items() if via}
        broadcast = {source: routes.broadcast(source) for source in known}
        self._pump.set_routes(
            known=[int(name) for name in broadcast],
            unicast={int(destination): int(via) for destination, via in unicast.items()},
            broadcast={int(source): [int(hop) for hop in hops] for source, hops in broadcast.items()},
        )
        if self._kernel is not None:
            self._kernel.set_topology(Topology(us, short_ids, unicast, broadcast))
            self._plan()

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
            case ipc.SendFailed(peer, number):
                self._feed_plait1(peer, lambda session: session.send_failed(number))
                self._feed_sleeve(peer, lambda session: session.send_failed(number, _now()))
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
            if isinstance(live.user, Plait1Session):
                self._perform(live, live.user, live.user.pump_died(_now()))
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
        if live is not None and isinstance(live.user, SleeveSession):
            self._perform(live, live.user, step(live.user))

    def _feed_plait1(self, peer: int, step: Callable[[Plait1Session], list[sleeve.Action]]) -> None:
        live = self._by_peer.get(PeerName(peer))
        if live is not None and isinstance(live.user, Plait1Session):
            self._perform(live, live.user, step(live.user))

    # From the kernel

    def kernel_readable(self) -> None:
        """Take the heartbeats that came by VXLAN."""
        kernel = self._kernel
        if kernel is None:
            return
        for event in kernel.kernel.events():
            peer = kernel.peer(event.source)
            live = None if peer is None else self._by_peer.get(peer)
            heartbeat = parse_heartbeat(event.head, event.length)
            if live is None or live.fastdp is None or heartbeat is None:
                continue
            live.fastdp.traffic_counted(kernel.traffic(event.source))
            self._perform(live, live.fastdp, live.fastdp.heartbeat_received(event.remote, heartbeat, _now()))

    # Timers

    async def run_timers(self) -> None:
        """Wake the sessions when they ask for it, until cancelled."""
        while True:
            self._timer_moved.clear()
            deadlines = [session.next_deadline() for live in self._live.values() for session in live.sessions]
            if self._kernel is not None:
                deadlines.append(self._kernel.next_deadline())
            try:
                async with asyncio.timeout_at(min((when for when in deadlines if when is not None), default=None)):
                    await self._timer_moved.wait()
            except TimeoutError:
                self._handle_timers(_now())

    def _handle_timers(self, now: float) -> None:
        for live in list(self._live.values()):
            for session in live.sessions:
                deadline = session.next_deadline()
                if deadline is not None and deadline <= now:
                    self._count_traffic(live, session)
                    self._perform(live, session, session.handle_timer(now))
        planned = None if self._kernel is None else self._kernel.next_deadline()
        if planned is not None and planned <= now:
            self._plan()

    async def watch_interfaces(self) -> None:
        """Tell the sessions the MTUs of their interfaces when they ask and from time to time, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(INTERFACE_INTERVAL):
                    await self._interface_asked.wait()
            except TimeoutError:
                pass
            self._interface_asked.clear()
            asking = [
                (live, session, remote)
                for live in self._live.values()
                for session in live.sessions
                if not isinstance(session, SleeveSession) and (remote := remote_ip(session)) is not None
            ]
            if not asking:
                continue
            try:
                mtus = await asyncio.to_thread(self._interface_mtus, [remote for _, _, remote in asking])
            except (PlaitError, OSError) as error:
                self._warn(f"the interfaces towards the peers cannot be looked at ({error}): asked again in a moment")
                continue
            for (live, session, remote), mtu in zip(asking, mtus, strict=True):
                if remote_ip(session) == remote and self._live.get(live.link.id) is live:
                    self._perform(live, session, session.interface_mtu_known(mtu, _now()))

    # Acting

    def _perform(self, live: LiveConnection, session: Session, actions: Sequence[Action]) -> None:
        for action in actions:
            self._perform_one(live, session, action)
        if isinstance(live.user, Plait1Session):
            live.user.set_standby(live.switch.best == FASTDP, _now())
        self._timer_moved.set()

    def _perform_one(self, live: LiveConnection, session: Session, action: Action) -> None:
        link, peer = live.link, live.link.peer
        overlay = FASTDP if session is live.fastdp else live.overlay
        live.handed += isinstance(action, _SENDING)
        match action:
            case sleeve.SendControl(tag, payload):
                self._send_control(live, overlay, tag, payload)
            case fastdp.SendFrame(frame):
                self._send_frame(live, frame)
            case fastdp.SetPath():
                self.host.ask()
                self._plan()
            case fastdp.Healthy():
                self._follow(live, live.switch.healthy(overlay))
            case fastdp.Unhealthy(reason):
                self._follow(live, live.switch.unhealthy(overlay, reason))
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
                self._follow(live, live.switch.established(overlay))
            case sleeve.Failed(reason):
                self._follow(live, live.switch.failed(overlay, reason))

    def _follow(self, live: LiveConnection, events: Sequence[Event]) -> None:
        """Act on what the switch decided."""
        for event in events:
            match event:
                case BestChanged():
                    self.falls += event.is_fall
                    self._mesh.overlay_changed(live.link, event)
                case ConnectionEstablished():
                    self._mesh.established(live.link.id)
                case ConnectionFailed(reason):
                    self._mesh.failed(live.link.id, reason)
        self._plan()

    def _plan(self) -> None:
        """Put into the kernel what follows from routes and connections."""
        kernel = self._kernel
        if kernel is None:
            return
        carriers = {
            live.link.peer: carrier_of(
                live.fastdp,
                None if live.fastdp is None else kernel.kernel.underlay(live.fastdp.remote_ip),
                live.link.local_ip,
                is_best=live.switch.best == FASTDP,
            )
            for live in self._by_peer.values()
        }
        try:
            kernel.plan(carriers, _now())
        except PlaitError as error:
            self._warn(f"the datapath's tables cannot be written ({error}): tried again in a moment")
        self._timer_moved.set()

    def _count_traffic(self, live: LiveConnection, session: Session) -> None:
        if self._kernel is not None and isinstance(session, FastdpSession):
            short_id = self._kernel.topology.ids.get(live.link.peer)
            if short_id is not None:
                session.traffic_counted(self._kernel.traffic(short_id))

    def _send_frame(self, live: LiveConnection, frame: bytes) -> None:
        kernel, session = self._kernel, live.fastdp
        short_id = None if kernel is None else kernel.topology.ids.get(live.link.peer)
        if kernel is None or session is None or short_id is None or kernel.kernel.our_id is None:
            return  # without a short id a peer cannot be reached by VXLAN: the next heartbeat may
        try:
            kernel.kernel.send(frame, short_id, live.link.local_ip, session.remote_ip)
        except OSError as error:
            number = error.errno or 0
            failed = session.packet_too_big if number == errno.EMSGSIZE else partial(session.send_failed, number)
            self._perform(live, session, failed())

    def _set_connection(self, live: LiveConnection) -> None:
        link, session = live.link, live.user
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

    def _send_control(self, live: LiveConnection, overlay: str, tag: int, payload: bytes) -> None:
        control = live.switch.outgoing(overlay, tag, payload)
        if control is None:
            return
        if control.index is None:
            message: messages.Message = messages.LegacyOverlayControl(tag, payload)
        else:
            message = messages.OverlayControl(control.index, tag, payload)
        self._mesh.send_control(live.link.id, messages.encode(message))

    def _query_path_mtu(self, live: LiveConnection) -> None:
        session = live.user
        if not isinstance(session, SleeveSession) or (remote := session.remote) is None:
            return
        mtu: int | None
        try:
            mtu = self._path_mtu(live.link.local_ip, remote[0])
        except OSError as error:
            self._warn(f"the kernel knows no path MTU to {remote[0]} ({error.strerror}): is there a route to it?")
            mtu = None
        self._perform(live, session, session.path_mtu_known(mtu, _now()))


def _now() -> float:
    return asyncio.get_running_loop().time()
