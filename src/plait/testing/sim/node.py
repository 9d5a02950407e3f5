"""One simulated node: the real router, connections and handshakes; only sockets and overlays are modelled."""

import random
from collections.abc import Callable
from dataclasses import dataclass

from plait.errors import PlaitError
from plait.mesh import events
from plait.mesh.connection import Connection
from plait.mesh.features import LocalFeatures
from plait.mesh.handshake import Handshake
from plait.mesh.links import OpenedConnection
from plait.mesh.maker import ConnectionMaker, Target
from plait.mesh.name import PeerName
from plait.mesh.records import PeerSummary
from plait.mesh.router import Router
from plait.testing.sim.clock import Clock
from plait.testing.sim.network import Network, StreamEnd

PORT = 6783
OVERLAYS = ("sleeve",)
# How long a dial into a partition hangs, and how often the modelled overlay tries its heartbeat, seconds.
DIAL_TIMEOUT = 20.0
HEARTBEAT_SECONDS = 0.5
OVERLAY_TIMEOUT = 60.0


@dataclass
class _Wire:
    core: Connection
    end: StreamEnd
    outbound: bool
    accepts_unknown: bool
    id: int = 0
    uid: int = 0
    is_confirmed: bool = False
    is_in_mesh: bool = False
    started: float = 0.0


class SimNode:
    """A host and, while it runs, the node on it. `address` is its IP; names survive restarts, UIDs do not."""

    def __init__(
        self,
        address: str,
        name: PeerName,
        clock: Clock,
        network: Network,
        rng: random.Random,
        find: Callable[[str], "SimNode | None"],
    ) -> None:
        self.address = address
        self.name = name
        self.targets: list[str] = []
        self.refusals: list[str] = []
        self.notices: list[str] = []
        self.discovery = True
        self.connection_limit = 200
        self._clock = clock
        self._network = network
        self._rng = rng
        self._find = find
        self._router: Router | None = None
        self._wires: dict[int, _Wire] = {}
        self._all_wires: list[_Wire] = []
        self._next_id = 0
        self._armed_for: float | None = None

    @property
    def is_running(self) -> bool:
        """False before `start` and after `crash`."""
        return self._router is not None

    @property
    def router(self) -> Router:
        """The running router."""
        if self._router is None:
            raise PlaitError(f"simulated node {self.address} does not run")
        return self._router

    # What an operator does

    def start(self, targets: list[str]) -> None:
        """Start the node with the addresses of peers to dial."""
        self.targets = targets
        summary = PeerSummary(
            self.name, f"n{self.address}", self._rng.getrandbits(63) + 1, 0, self._rng.randrange(4096)
        )
        maker = ConnectionMaker(
            rng=self._rng,
            port=PORT,
            our_name=self.name,
            our_addresses=frozenset({f"{self.address}:{PORT}"}),
            discovery=self.discovery,
        )
        self._router = Router(summary, maker, self.connection_limit, OVERLAYS, self._rng, self._clock.now)
        self._router.connect([Target(ip, ip, None) for ip in targets], replace=False, now=self._clock.now)
        self._flush()

    def crash(self) -> None:
        """Lose power: nothing is said to anybody; the kernel of the restarted host resets old connections."""
        for wire in self._all_wires:
            wire.end.on_data, wire.end.on_reset = lambda data: None, lambda: None
            self._clock.call_later(1.0, wire.end.reset)
        self._wires.clear()
        self._all_wires.clear()
        self._router = None

    # Network side

    def accept(self, end: StreamEnd) -> None:
        """Take a connection that another node dialled."""
        self._open(end, outbound=False, accepts_unknown=True)

    def _dial(self, dial: events.DialPeer) -> None:
        router = self._router
        host = dial.address.rpartition(":")[0]

        def attempt() -> None:
            if self._router is not router or router is None:
                return
            other = self._find(host)
            if not self._network.is_open(self.address, host):
                self._clock.call_later(DIAL_TIMEOUT, lambda: self._dial_failed(router, dial.address, "timed out"))
            elif other is None or not other.is_running:
                self._dial_failed(router, dial.address, "connection refused")
            else:
                stream = self._network.connect(self.address, host, dial.address)
                self._open(stream.near, outbound=True, accepts_unknown=dial.accepts_unknown)
                other.accept(stream.far)

        self._clock.call_later(self._network.latency() * 2, attempt)

    def _dial_failed(self, router: Router, address: str, error: str) -> None:
        if self._router is router:
            router.dial_failed(address, error, self._clock.now)
            self._flush()

    def _open(self, end: StreamEnd, outbound: bool, accepts_unknown: bool) -> None:
        own = self.router.peers.ourself.summary
        features = LocalFeatures(
            name=own.name,
            nickname=own.nickname,
            uid=own.uid,
            conn_id=self._rng.getrandbits(64),
            short_id=own.short_id,
            trusted=False,
            overlays=OVERLAYS,
        )
        handshake = Handshake(features=features, password=None, private_key=bytes(32), is_initiator=outbound)
        wire = _Wire(Connection(handshake, self._clock.now), end, outbound, accepts_unknown, started=self._clock.now)
        self._all_wires.append(wire)
        end.on_data = lambda data: self._receive(wire, data)
        end.on_reset = lambda: self._ended(wire, "connection reset by peer")
        self._send(wire)
        self._arm_wire(wire)

    def _receive(self, wire: _Wire, data: bytes) -> None:
        now = self._clock.now
        try:
            wire.core.receive(data, now)
            if wire.core.result is not None and not wire.is_in_mesh:
                self._join(wire)
            while (message := wire.core.next_message()) is not None:
                self.router.message_received(wire.id, message, now)
        except PlaitError as error:
            self._ended(wire, str(error))
            wire.end.reset()
            return
        self._send(wire)
        self._flush()

    def _join(self, wire: _Wire) -> None:
        result = wire.core.result
        if result is None:
            return
        self._next_id += 1
        wire.id, wire.uid, wire.is_in_mesh = self._next_id, result.connection_uid, True
        self._wires[wire.id] = wire
        wire.core.start_heartbeats(self._clock.now)
        opened = OpenedConnection(
            id=wire.id,
            address=wire.end.address,
            local_ip=self.address,
            outbound=wire.outbound,
            accepts_unknown=wire.accepts_unknown,
            uid=wire.uid,
            features=result.features,
            session_key=None,
        )
        self.router.connection_opened(opened, self._clock.now)

    def _ended(self, wire: _Wire, reason: str) -> None:
        if wire not in self._all_wires:
            return
        self._all_wires.remove(wire)
        if self._wires.pop(wire.id, None) is not None:
            self.router.connection_lost(wire.id, reason, self._clock.now)
        elif wire.outbound and not wire.is_in_mesh:
            self.router.dial_failed(wire.end.address, reason, self._clock.now)
        self._flush()

    # Router side

    def _flush(self) -> None:
        for event in self.router.take_events():
            match event:
                case events.Transmit(connection):
                    self._transmit(connection)
                case events.CloseConnection(connection, reason):
                    self._close(connection, reason)
                case events.DialPeer():
                    self._dial(event)
                case events.ConnectionConfirmed(connection, _):
                    self._wires[connection].is_confirmed = True
                    self._try_overlay(self._wires[connection])
                case events.Notice(text):
                    self.notices.append(text)
                case _:
                    pass
        self._arm_router()

    def _transmit(self, connection: int) -> None:
        wire = self._wires.get(connection)
        if wire is None:
            return
        while (message := self.router.next_message(connection)) is not None:
            wire.core.send(message)
        self._send(wire)

    def _close(self, connection: int, reason: str) -> None:
        wire = self._wires.pop(connection, None)
        if wire is not None:
            self.refusals.append(reason)
            self._all_wires.remove(wire)
            wire.end.on_data, wire.end.on_reset = lambda data: None, lambda: None
            wire.end.reset()

    def _send(self, wire: _Wire) -> None:
        data = wire.core.data_to_send()
        if data:
            wire.end.send(data)

    def _try_overlay(self, wire: _Wire) -> None:
        """The overlay works once both ends are confirmed and packets pass; it fails after a minute without."""
        if wire not in self._all_wires:
            return
        host = wire.end.address.rpartition(":")[0]
        other = self._find(host)
        if other is not None and self._network.is_open(self.address, host) and other.has_confirmed(wire.uid):
            self.router.connection_established(wire.id, self._clock.now)
            self._flush()
        elif self._clock.now - wire.started > OVERLAY_TIMEOUT:
            self.router.overlay_failed(wire.id, "timed out waiting for UDP heartbeat", self._clock.now)
            self._flush()
        else:
            self._clock.call_later(HEARTBEAT_SECONDS, lambda: self._try_overlay(wire))

    def has_confirmed(self, uid: int) -> bool:
        """True if a connection with this UID is part of the mesh here."""
        return any(wire.uid == uid and wire.is_confirmed for wire in self._wires.values())

    # Timers

    def _arm_router(self) -> None:
        deadline = self.router.next_deadline()
        if deadline is None or (self._armed_for is not None and self._clock.now < self._armed_for <= deadline):
            return
        self._armed_for = deadline
        router = self._router

        def fire() -> None:
            if self._router is router and router is not None:
                self._armed_for = None
                router.handle_timer(self._clock.now)
                self._flush()

        self._clock.call_at(deadline, fire)

    def _arm_wire(self, wire: _Wire) -> None:
        def fire() -> None:
            if wire not in self._all_wires:
                return
            if self._clock.now >= wire.core.next_deadline():
                try:
                    wire.core.handle_timer(self._clock.now)
                except PlaitError as error:
                    wire.end.reset()
                    self._ended(wire, str(error))
                    return
                self._send(wire)
            self._arm_wire(wire)

        self._clock.call_at(wire.core.next_deadline(), fire)
