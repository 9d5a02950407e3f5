"""A virtual underlay: byte streams with latency between nodes, partitions, refused and swallowed dials."""

import random
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from plait.testing.sim.clock import Clock

# A packet that a partition swallows is sent again after this long, as TCP would.
RETRANSMIT_SECONDS = 0.5


@dataclass
class StreamEnd:
    """One end of a virtual TCP connection; the owner sets the callbacks."""

    stream: "Stream"
    host: str
    address: str
    on_data: Callable[[bytes], None] = lambda data: None
    on_reset: Callable[[], None] = lambda: None
    inbox: deque[bytes | None] = field(default_factory=deque)
    busy_until: float = 0.0
    is_closed: bool = False

    def send(self, data: bytes) -> None:
        """Deliver bytes to the other end, in order, when the path allows."""
        self.stream.deliver(self, data)

    def reset(self) -> None:
        """Close; the other end hears of it if the path allows."""
        if not self.is_closed:
            self.is_closed = True
            self.stream.deliver(self, None)


class Stream:
    """A virtual TCP connection."""

    def __init__(self, network: "Network", dialler: str, acceptor: str, dialled: str, ephemeral: str) -> None:
        self._network = network
        self.near = StreamEnd(self, dialler, dialled)
        self.far = StreamEnd(self, acceptor, ephemeral)

    def deliver(self, sender: StreamEnd, data: bytes | None) -> None:
        """Queue bytes (None: a reset) for the other end."""
        receiver = self.far if sender is self.near else self.near
        receiver.inbox.append(data)
        clock = self._network.clock
        receiver.busy_until = max(receiver.busy_until, clock.now + self._network.latency())
        clock.call_at(receiver.busy_until, lambda: self._arrive(sender, receiver))

    def _arrive(self, sender: StreamEnd, receiver: StreamEnd) -> None:
        if not receiver.inbox or receiver.is_closed:
            return
        if not self._network.is_open(sender.host, receiver.host):
            self._network.clock.call_later(RETRANSMIT_SECONDS, lambda: self._arrive(sender, receiver))
            return
        while receiver.inbox and not receiver.is_closed:
            data = receiver.inbox.popleft()
            if data is None:
                receiver.is_closed = True
                receiver.on_reset()
            else:
                receiver.on_data(data)


class Network:
    """Who can reach whom, and how long it takes."""

    def __init__(self, clock: Clock, rng: random.Random, latency: tuple[float, float] = (0.001, 0.02)) -> None:
        self.clock = clock
        self._rng = rng
        self._latency = latency
        self._group_of: dict[str, int] = {}
        self._cuts: set[tuple[str, str]] = set()
        self._next_port = 40000

    def latency(self) -> float:
        """Draw the one-way delay of one packet, seconds."""
        return self._rng.uniform(*self._latency)

    def partition(self, groups: Iterable[Iterable[str]]) -> None:
        """Let hosts reach only hosts of their own group; hosts in no group form one more."""
        self._group_of = {host: number for number, group in enumerate(groups, start=1) for host in group}

    def cut(self, one: str, other: str) -> None:
        """Let nothing pass between two hosts."""
        self._cuts |= {(one, other), (other, one)}

    def heal(self) -> None:
        """Undo every partition and cut."""
        self._group_of.clear()
        self._cuts.clear()

    def is_open(self, one: str, other: str) -> bool:
        """True if packets pass from one host to the other."""
        return self._group_of.get(one) == self._group_of.get(other) and (one, other) not in self._cuts

    def connect(self, dialler: str, acceptor: str, address: str) -> Stream:
        """Make a stream whose acceptor sees the dialler at an ephemeral port."""
        self._next_port += 1
        return Stream(self, dialler, acceptor, address, f"{dialler}:{self._next_port}")
