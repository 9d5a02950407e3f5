"""A neighbour as the pump knows it: what both formats have in common, and what a link hands to the shell to send."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from enum import Enum
from typing import NamedTuple

from plait.mesh.name import NAME_BYTES
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.plait1.engine import Buffer, Segments
from plait.overlay.sleeve.plait1.superframe import Layout
from plait.overlay.sleeve.sender import Path
from plait.overlay.sleeve.token_bucket import TokenBucket

LINK_COUNTERS = (
    "rx_datagrams",
    "rx_frames",
    "rx_bytes",
    "rx_rejected",
    "tx_datagrams",
    "tx_frames",
    "tx_bytes",
    "tx_dropped",
)
"""What `Stats.peers` tells of each neighbour; bytes are those of UDP payloads."""

SPECIALS_PER_SECOND = 200.0
"""Overlay messages of one neighbour passed to the node: an MTU search needs some 50; anybody can forge plain ones."""

TOO_BIG_PER_SECOND = 5.0
"""Reports of one neighbour's refused datagrams: the session asks the kernel at most once a second."""


class Socket(Enum):
    """By which socket a datagram leaves."""

    PLAIN = "for everybody, without DF"
    DF = "for everybody, with DF"
    PEER = "connected to the neighbour, with DF"


class Payloads(NamedTuple):
    """UDP payloads for one neighbour and one socket, in order; `address` only if it is not the path's."""

    link: "Link"
    socket: Socket
    payloads: list[bytes]
    address: ipc.Endpoint | None = None
    is_data: bool = True
    """Frames of containers are in it."""


class SuperFrame(NamedTuple):
    """The datagrams of one super-frame for one neighbour; send them before the next is asked for."""

    link: "Link"
    segments: Segments


Outgoing = Payloads | SuperFrame


class Verdict(Enum):
    """What became of a frame that a link was to carry."""

    TAKEN = "taken"
    TOO_BIG = "too big: its sender should be told"
    NO_ADDRESS = "no_address"
    BROADCAST_TOO_BIG = "broadcast_too_big"
    UNFIT = "unfit"


class Injection(NamedTuple):
    """Frames of one source for one destination; each in pieces, the first of which has all headers."""

    source: bytes
    destination: bytes
    frames: list[list[Buffer]]


class Special(NamedTuple):
    """A special frame of Weave's format."""

    frame: bytes


class ProbeSeen(NamedTuple):
    """A probe of this connection."""


class Acknowledged(NamedTuple):
    """One of our probes came back."""

    message: ipc.ProbeAcknowledged


Received = Injection | Special | ProbeSeen | Acknowledged | Payloads


class Link(ABC):
    """A connection to a neighbour, from SetConnection to RemoveConnection."""

    def __init__(self, us: bytes, wanted: ipc.SetConnection) -> None:
        """`us` is our own name."""
        self.us = us
        self.peer = wanted.peer
        self.name = wanted.peer.to_bytes(NAME_BYTES, "big")
        self.local_ip = wanted.local_ip
        self.path = Path()
        self.errnos = dict.fromkeys(Socket, 0)
        """Why the last datagram was refused; 0 after one that was not."""
        self.counters = dict.fromkeys(LINK_COUNTERS, 0)
        self.data_sent = 0
        """Datagrams with frames of containers that the kernel took."""
        self.fragmented = 0
        """Packets cut since the core asked."""
        self.specials = TokenBucket(SPECIALS_PER_SECOND, SPECIALS_PER_SECOND)
        self.too_big = TokenBucket(TOO_BIG_PER_SECOND, 1.0)

    def set_path(self, path: Path) -> None:
        """Use another path for frames from now on."""
        self.path = path

    def mtu(self, src: bytes, dst: bytes) -> int:
        """Give what fits an overlay packet from one peer to another."""
        return self.path.mtu

    @abstractmethod
    def add(self, raw: bytes, src: bytes, dst: bytes, is_broadcast: bool) -> Verdict:
        """Take a single frame with its virtio-net header for the next `flush`."""

    @abstractmethod
    def add_super(
        self, raw: memoryview, where: Layout, src: bytes, dst: bytes, now: float
    ) -> "Iterator[Outgoing] | Verdict":
        """Take a super-frame: what it becomes is sent at once, so `flush` before. Or say why it cannot be taken."""

    @abstractmethod
    def flush(self, now: float) -> Iterator[Outgoing]:
        """Give what may leave now, and forget it."""

    def take_dropped(self) -> int:
        """Give how many datagrams found no room since the last call."""
        return 0

    @property
    def is_held_back(self) -> bool:
        """More waits for a later `flush`."""
        return False

    @abstractmethod
    def receive(self, data: bytearray, size: int, step: int, source: ipc.Endpoint, now: float) -> Iterator[Received]:
        """Open datagrams of this neighbour: `step` bytes each, the last maybe fewer. Use each result at once."""

    @abstractmethod
    def reject_counts(self) -> dict[str, int]:
        """Give what was rejected since the last call, by counter."""
