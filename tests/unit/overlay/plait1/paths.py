"""Two plait1 sessions, the pumps between them and a path, under a virtual clock: delay, loss, MTUs, lost data."""

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count

from plait.overlay.sleeve import actions as a
from plait.overlay.sleeve.ipc import Endpoint, ProbeAcknowledged
from plait.overlay.sleeve.plait1.session import Plait1Session
from unit.overlay.virtual_time import VirtualTime

UID = 0x1122334455667788
ADDRESSES = (("192.0.2.1", 6783), ("198.51.100.2", 6783))
LEAST_PROBE_BYTES = 28 + 16 + 26


@dataclass(slots=True)
class Direction:
    """What happens to datagrams of one side; `icmp` is the MTU that a router on the path claims."""

    interface_mtu: int | None = 1500
    path_mtu: int = 1500
    loss: float = 0.0
    delay: float = 0.002
    icmp: int | None = None


@dataclass(slots=True)
class Side:
    """One session with the pump's memory of probes: those of another address than the present one count no more."""

    session: Plait1Session
    out: Direction
    address: Endpoint
    log: list[tuple[float, a.Action]] = field(default_factory=list)
    outstanding: dict[int, tuple[int, float]] = field(default_factory=dict)
    remote: Endpoint | None = None
    max_payload: int = 0
    tx_bytes: int = 0
    sent: int = 0
    received: int = 0

    @property
    def actions(self) -> list[a.Action]:
        return [action for _, action in self.log]

    def did(self, kind: type[a.Action]) -> list[float]:
        """When."""
        return [now for now, action in self.log if isinstance(action, kind)]

    def probes(self) -> list[tuple[float, int]]:
        return [(now, action.size) for now, action in self.log if isinstance(action, a.SendProbe)]


class World(VirtualTime):
    """Side 0 dialled."""

    def __init__(
        self,
        out: tuple[Direction, Direction] | None = None,
        *,
        is_encrypted: bool = False,
        heartbeat_interval: float = 1.0,
        seed: int = 0,
    ) -> None:
        super().__init__()
        directions = out or (Direction(), Direction())
        self.sides = tuple(
            Side(
                Plait1Session(
                    connection_uid=UID,
                    is_encrypted=is_encrypted,
                    remote=remote,
                    heartbeat_interval=heartbeat_interval,
                    first_repeat=0.01,
                ),
                way,
                address,
            )
            for remote, way, address in zip((ADDRESSES[1], None), directions, ADDRESSES, strict=True)
        )
        self._random = random.Random(seed)
        self._numbers = count(1)

    def confirm(self) -> None:
        for number in (0, 1):
            self.feed(number, lambda session: session.confirm(self.now))

    def move(self, number: int, address: Endpoint) -> None:
        """From now on datagrams of a side come from another address, and reach it there (NAT)."""
        self.sides[number].address = address

    def data(self, number: int, datagrams: int, size: int) -> None:
        """Frames of containers; `size` is that of the IP packet."""
        side, far = self.sides[number], self.sides[1 - number]
        side.sent += datagrams
        side.tx_bytes += datagrams * (size - 28)
        if size <= side.out.path_mtu:
            far.received += sum(self._random.random() >= side.out.loss for _ in range(datagrams))

    def deadlines(self) -> list[float | None]:
        return [side.session.next_deadline() for side in self.sides]

    def wake(self) -> None:
        for number in (0, 1):
            self.feed(number, lambda session: session.handle_timer(self.now))

    def feed(self, number: int, step: Callable[[Plait1Session], list[a.Action]]) -> None:
        side = self.sides[number]
        for action in step(side.session):
            side.log.append((self.now, action))
            self._perform(number, side, action)

    def _perform(self, number: int, side: Side, action: a.Action) -> None:
        match action:
            case a.SetPath(remote, _, max_payload, _):
                if remote != side.remote:
                    side.outstanding.clear()
                side.remote, side.max_payload = remote, max_payload
            case a.SendProbe(size):
                self._probe(number, side, max(size, LEAST_PROBE_BYTES))
            case a.QueryInterfaceMtu():
                mtu = side.out.interface_mtu
                self._later(0.0001, number, lambda session: session.interface_mtu_known(mtu, self.now))
            case a.SendControl(tag, payload):
                self._later(0.0005, 1 - number, lambda session: session.control_received(tag, payload))
            case _:
                pass

    def _probe(self, number: int, side: Side, size: int) -> None:
        out = side.out
        if out.interface_mtu is None:
            self.feed(number, lambda session: session.send_failed(errno.ENETUNREACH))
            return
        if size > out.interface_mtu:
            self.feed(number, lambda session: session.packet_too_big())
            return
        far = self.sides[1 - number]
        sequence = next(self._numbers)
        side.outstanding[sequence] = (size, self.now)
        if out.icmp is not None and size > out.icmp:
            claim = out.icmp
            self._later(out.delay, number, lambda session: session.mtu_hint(claim, self.now))
        is_lost = size > out.path_mtu or self._random.random() < out.loss or side.remote != far.address
        if not is_lost:
            source, sent = side.address, side.sent
            self.at(self.now + out.delay, lambda: self._arrive(number, source, sequence, sent))

    def _arrive(self, number: int, source: Endpoint, sequence: int, sent: int) -> None:
        """The far pump answers at once, to where the probe came from, and tells its session of it."""
        side, far = self.sides[number], self.sides[1 - number]
        received = far.received
        back = far.out
        if self._random.random() >= back.loss and source == side.address:
            self.at(self.now + back.delay, lambda: self._acknowledge(number, sequence, sent, received))
        self.feed(1 - number, lambda session: session.probe_received(source, self.now))

    def _acknowledge(self, number: int, sequence: int, sent: int, received: int) -> None:
        side = self.sides[number]
        size, sent_at = side.outstanding.pop(sequence, (0, 0.0))
        if size:
            acked = ProbeAcknowledged(2, size, self.now - sent_at, sent, received, side.tx_bytes, 0)
            self.feed(number, lambda session: session.probe_acknowledged(acked, self.now))

    def _later(self, delay: float, number: int, step: Callable[[Plait1Session], list[a.Action]]) -> None:
        self.at(self.now + delay, lambda: self.feed(number, step))
