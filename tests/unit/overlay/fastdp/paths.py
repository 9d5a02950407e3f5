"""A virtual clock and two hosts: fastdp sessions whose frames cross paths that lose, cut and refuse them."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from plait.overlay.fastdp import actions as a
from plait.overlay.fastdp import wire
from plait.overlay.fastdp.echoes import Traffic
from plait.overlay.fastdp.session import CONTROL_ACK, FastdpSession
from plait.overlay.sleeve.actions import QueryInterfaceMtu, SendControl
from unit.overlay.virtual_time import VirtualTime

UID = 0x1122334455667788
ADDRESSES = ("192.0.2.1", "198.51.100.2")
HEAD_BYTES = 60
"""What the datapath gives of a frame; zeros where it is shorter."""


@dataclass(slots=True)
class Direction:
    """What happens to frames of one side. MTUs are those of outer IP packets."""

    interface_mtu: int = 1500
    path_mtu: int = 1500
    loss: float = 0.0
    delay: float = 0.002
    is_cut: bool = False


@dataclass(slots=True)
class Side:
    """One session and its datapath's counters."""

    session: FastdpSession
    out: Direction
    address: str
    log: list[tuple[float, a.Action]] = field(default_factory=list)
    frames: list[tuple[float, int]] = field(default_factory=list)
    """When which size of outer IP packet was sent."""
    sent: int = 0
    received: int = 0
    counts: bool = True

    def did(self, *kinds: type[a.Action]) -> list[float]:
        """When."""
        return [now for now, action in self.log if isinstance(action, kinds)]

    def reasons(self) -> list[str]:
        """Why it was unhealthy."""
        return [action.reason for _, action in self.log if isinstance(action, a.Unhealthy)]

    def health(self) -> list[bool]:
        """The changes, without those of a reason."""
        changes = [
            isinstance(action, a.Healthy) for _, action in self.log if isinstance(action, a.Healthy | a.Unhealthy)
        ]
        return [after for before, after in zip([True, *changes], changes, strict=False) if before != after]


class World(VirtualTime):
    """Both sides know each other's address."""

    def __init__(
        self,
        out: tuple[Direction, Direction] | None = None,
        *,
        is_plait: bool = True,
        interval: float = 1.0,
        local_mtu: int = 65535,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.sides = tuple(
            Side(
                FastdpSession(
                    connection_uid=UID,
                    is_encrypted=False,
                    remote_ip=remote,
                    is_plait=is_plait,
                    heartbeat_interval=interval,
                    local_mtu=local_mtu,
                ),
                way,
                address,
            )
            for remote, way, address in zip(
                reversed(ADDRESSES), out or (Direction(), Direction()), ADDRESSES, strict=True
            )
        )
        self._random = random.Random(seed)

    @property
    def sessions(self) -> list[FastdpSession]:
        return [side.session for side in self.sides]

    def confirm(self) -> None:
        for number in (0, 1):
            self.feed(number, lambda session: session.confirm(self.now))

    def cut(self, *numbers: int, heal: bool = False) -> None:
        """Let nothing of these sides through any more, or all again."""
        for number in numbers:
            self.sides[number].out.is_cut = not heal

    def data(self, number: int, frames: int, size: int) -> None:
        """Frames of containers; `size` is that of the outer IP packet."""
        side, far = self.sides[number], self.sides[1 - number]
        side.sent += frames
        if size <= side.out.path_mtu and not side.out.is_cut:
            far.received += sum(self._random.random() >= side.out.loss for _ in range(frames))

    def run_for(self, seconds: float) -> None:
        self.run_until(self.now + seconds)

    def deadlines(self) -> list[float | None]:
        return [side.session.next_deadline() for side in self.sides]

    def wake(self) -> None:
        for number in (0, 1):
            self._count(number)
            self.feed(number, lambda session: session.handle_timer(self.now))

    def feed(self, number: int, step: Callable[[FastdpSession], list[a.Action]]) -> None:
        side = self.sides[number]
        for action in step(side.session):
            side.log.append((self.now, action))
            match action:
                case a.SendFrame(frame):
                    self._send(number, side, frame)
                case QueryInterfaceMtu():
                    self.at(self.now + 0.0001, lambda: self._tell_interface_mtu(number))
                case SendControl():
                    self.at(self.now + 0.0005, lambda: self._deliver_control(1 - number))
                case _:
                    pass

    def _count(self, number: int) -> None:
        side = self.sides[number]
        if side.counts:
            side.session.traffic_counted(Traffic(side.sent, side.received, 1000 * side.sent, 1000 * side.received))

    def _send(self, number: int, side: Side, frame: bytes) -> None:
        out, size = side.out, len(frame) + 36
        if size > out.interface_mtu:
            self.feed(number, lambda session: session.packet_too_big())
            return
        side.frames.append((self.now, size))
        far = self.sides[1 - number]
        is_lost = out.is_cut or size > out.path_mtu or self._random.random() < out.loss
        if not is_lost and side.session.remote_ip == far.address:
            source = side.address
            self.at(self.now + out.delay, lambda: self._arrive(1 - number, source, frame))

    def _arrive(self, number: int, source: str, frame: bytes) -> None:
        heartbeat = wire.parse_heartbeat(frame[:HEAD_BYTES].ljust(HEAD_BYTES, b"\x00"), len(frame))
        assert heartbeat is not None
        self._count(number)
        self.feed(number, lambda session: session.heartbeat_received(source, heartbeat, self.now))

    def _tell_interface_mtu(self, number: int) -> None:
        mtu = self.sides[number].out.interface_mtu
        self.feed(number, lambda session: session.interface_mtu_known(mtu, self.now))

    def _deliver_control(self, number: int) -> None:
        self.feed(number, lambda session: session.control_received(CONTROL_ACK, b"", self.now))
