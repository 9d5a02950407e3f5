"""A network of two sessions under a virtual clock: delay, loss, path MTU with or without ICMP, blocked fragments."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from plait.overlay.sleeve import session as s
from plait.overlay.sleeve.datagram import IP_UDP_BYTES, RECORD_HEADER_BYTES, datagram_overhead
from plait.overlay.sleeve.session import SleeveSession
from unit.overlay.virtual_time import VirtualTime

UID = 0x1122334455667788
ADDRESSES = (("192.0.2.1", 6783), ("198.51.100.2", 6783))
CONTROL_DELAY = 0.0005
DATAGRAM_DELAY = 0.0002


@dataclass(slots=True)
class Direction:
    """What happens to datagrams of one side; `kernel_mtu` is what its kernel believes of the path."""

    kernel_mtu: int = 1500
    path_mtu: int = 1500
    sends_icmp: bool = False
    passes_fragments: bool = True
    loss: float = 0.0
    delay: float = DATAGRAM_DELAY


@dataclass(slots=True)
class Side:
    session: SleeveSession
    out: Direction
    log: list[tuple[float, s.Action]] = field(default_factory=list)

    @property
    def actions(self) -> list[s.Action]:
        return [action for _, action in self.log]

    def candidates(self) -> list[int]:
        return [action.length - 14 for action in self.actions if isinstance(action, s.SendMtuTest)]


class World(VirtualTime):
    """Two sessions; side 0 dialled."""

    def __init__(
        self,
        out: tuple[Direction, Direction] | None = None,
        *,
        is_encrypted: bool = False,
        control_delay: float = CONTROL_DELAY,
        first_repeat: float = s.FAST_HEARTBEAT,
        seed: int = 0,
    ) -> None:
        super().__init__()
        directions = out or (Direction(), Direction())
        sessions = (
            SleeveSession(connection_uid=UID, is_encrypted=is_encrypted, remote=remote, first_repeat=first_repeat)
            for remote in (ADDRESSES[1], None)
        )
        self.sides = tuple(Side(session, way) for session, way in zip(sessions, directions, strict=True))
        self.addresses = list(ADDRESSES)
        self._fixed_bytes = IP_UDP_BYTES + datagram_overhead(is_encrypted) + RECORD_HEADER_BYTES
        self._control_delay = control_delay
        self._random = random.Random(seed)

    def confirm(self) -> None:
        for side in (0, 1):
            self._feed(side, lambda session: session.confirm(self.now))

    def deadlines(self) -> list[float | None]:
        return [side.session.next_deadline() for side in self.sides]

    def wake(self) -> None:
        for side in (0, 1):
            self._feed(side, lambda session: session.handle_timer(self.now))

    def _feed(self, side: int, step: Callable[[SleeveSession], list[s.Action]]) -> None:
        for action in step(self.sides[side].session):
            self.sides[side].log.append((self.now, action))
            self._perform(side, action)

    def _perform(self, side: int, action: s.Action) -> None:
        out = self.sides[side].out
        source = self.addresses[side]
        match action:
            case s.SendControl(tag, payload):
                self._later(self._control_delay, 1 - side, lambda t: t.control_received(tag, payload, self.now))
            case s.SendHeartbeat():
                self._datagram(side, lambda t: t.heartbeat_received(source, UID, self.now))
            case s.SendFragmentationTest() if out.passes_fragments:
                self._datagram(side, lambda t: t.fragmentation_test_received(True))
            case s.SendMtuTest(length):
                self._mtu_test(side, length)
            case s.QueryPathMtu():
                self._feed(side, lambda t: t.path_mtu_known(out.kernel_mtu, self.now))
            case s.Failed():
                raise AssertionError(action.reason)
            case _:
                pass

    def _mtu_test(self, side: int, length: int) -> None:
        out = self.sides[side].out
        size = length + self._fixed_bytes
        if size > out.kernel_mtu:
            self._feed(side, lambda t: t.packet_too_big(self.now))
        elif size <= out.path_mtu:
            self._datagram(side, lambda t: t.mtu_test_received(length, self.now))
        elif out.sends_icmp:
            out.kernel_mtu = out.path_mtu

    def _datagram(self, side: int, arrive: Callable[[SleeveSession], list[s.Action]]) -> None:
        out = self.sides[side].out
        if self._random.random() >= out.loss:
            self._later(out.delay, 1 - side, arrive)

    def _later(self, delay: float, side: int, step: Callable[[SleeveSession], list[s.Action]]) -> None:
        self.at(self.now + delay, lambda: self._feed(side, step))
