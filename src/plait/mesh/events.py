"""What the router asks of its shell and tells the other rooms."""

from dataclasses import dataclass

from plait.mesh.messages import LegacyOverlayControl, OverlayControl
from plait.mesh.name import PeerName
from plait.mesh.records import PeerRecord

ConnectionId = int
"""A number that the shell gives to each TCP connection; never reused within a process."""


@dataclass(frozen=True, slots=True)
class Transmit:
    """Messages wait for this connection: call `Router.next_message` until it gives None."""

    connection: ConnectionId


@dataclass(frozen=True, slots=True)
class CloseConnection:
    """End this connection; `Router.connection_lost` need not be called for it."""

    connection: ConnectionId
    reason: str


@dataclass(frozen=True, slots=True)
class DialPeer:
    """Open a TCP connection; tell the router the outcome under the same address."""

    address: str
    accepts_unknown: bool


@dataclass(frozen=True, slots=True)
class ConnectionConfirmed:
    """The connection won its place in the mesh: overlays may start on it."""

    connection: ConnectionId
    peer: PeerName


@dataclass(frozen=True, slots=True)
class ConnectionRemoved:
    """The connection has left the mesh: overlays on it must stop. `is_fault`: somebody should look at the reason.

    `label` is how people read the peer's name: the peer itself may be forgotten with its connection.
    """

    connection: ConnectionId
    peer: PeerName
    label: str
    address: str
    reason: str
    is_fault: bool


@dataclass(frozen=True, slots=True)
class ControlReceived:
    """An overlay control message came in."""

    connection: ConnectionId
    message: OverlayControl | LegacyOverlayControl


@dataclass(frozen=True, slots=True)
class RoutesChanged:
    """`Router.routes` is new."""


@dataclass(frozen=True, slots=True)
class PeerForgotten:
    """A peer left the mesh for good: forget what is known of it."""

    peer: PeerRecord


@dataclass(frozen=True, slots=True)
class Notice:
    """Something for the log: one sentence. `is_warning` if somebody should act on it."""

    text: str
    is_warning: bool = False


Event = (
    Transmit
    | CloseConnection
    | DialPeer
    | ConnectionConfirmed
    | ConnectionRemoved
    | ControlReceived
    | RoutesChanged
    | PeerForgotten
    | Notice
)
