"""Messages between the node and its pump, msgpack over a SOCK_SEQPACKET pair, one message per packet.

The node owns every decision that needs a timer (sessions, MTU search); the pump owns what each frame needs
(tables, keys, learned MACs). Peers are numbers (`PeerName`), addresses are (IPv4 or IPv6 as text, port).
"""

import msgspec

Endpoint = tuple[str, int]


class _Message(msgspec.Struct, frozen=True, tag=True):
    pass


class SetConnection(_Message, frozen=True):
    """Node to pump: a confirmed sleeve connection to a neighbour; replaces an earlier one to the same peer.

    `first_sequence` is where the counters of an encrypted connection start: the node never hands out a number
    twice under one key, whatever becomes of a pump. `overlay` names the format of datagrams: "sleeve" or "plait1";
    `cipher` (keys.Cipher) and `generation` (of the keys that the peer seals with) count for plait1 only.
    `is_paced`: the peer is Weave, whose socket overflows when much comes at once.
    """

    peer: int
    local_ip: str
    key: bytes | None
    outbound: bool
    first_sequence: int
    uid: int = 0
    overlay: str = "sleeve"
    cipher: int = 1
    generation: int = 0
    is_paced: bool = False


class SetGeneration(_Message, frozen=True):
    """Node to pump: seal what goes to this neighbour with keys of this generation."""

    peer: int
    generation: int


class SetPath(_Message, frozen=True):
    """Node to pump: where a neighbour is, and what fits: `mtu` for overlay packets, `max_payload` for UDP payloads."""

    peer: int
    remote: Endpoint | None
    mtu: int
    max_payload: int
    stack_frag: bool


class RemoveConnection(_Message, frozen=True):
    """Node to pump: the connection is gone; datagrams from that neighbour are dropped from now on."""

    peer: int


class SetRoutes(_Message, frozen=True):
    """Node to pump: all peers, next hop per destination, and the neighbours that get a broadcast from each source."""

    known: list[int]
    unicast: dict[int, int]
    broadcast: dict[int, list[int]]


class SetKernel(_Message, frozen=True):
    """Node to pump: what the kernel's datapath does: short id -> peer, and the neighbours that it sends frames to.

    `carried`: neighbour -> the largest IP packet of a container that the kernel sends there.

    With it, frames that come tagged with two short ids have a source and a destination (fastdp/bpf/fastdp.bpf.c).
    """

    short_ids: dict[int, int]
    carried: dict[int, int]


class SetAnnounced(_Message, frozen=True):
    """Node to pump: other peers and the MAC addresses of their containers, as they say; none that is here."""

    macs: dict[int, list[bytes]]


class SendSpecial(_Message, frozen=True):
    """Node to pump: send a special frame of `length` bytes: 14 zero bytes, then `uid` if given, then zeros."""

    peer: int
    length: int
    uid: int | None
    df: bool


class SendProbe(_Message, frozen=True):
    """Node to pump: send a plait1 probe whose IP packet has `size` bytes, or the least a probe can have."""

    peer: int
    size: int


class SetLocalMtu(_Message, frozen=True):
    """Node to pump: the overlay MTU of this host's bridge; larger received frames must be cut or answered."""

    mtu: int


class QueryStats(_Message, frozen=True):
    """Node to pump: answer with `Stats`."""


ToPump = (
    SetConnection
    | SetGeneration
    | SetPath
    | RemoveConnection
    | SetRoutes
    | SetKernel
    | SetAnnounced
    | SendSpecial
    | SendProbe
    | SetLocalMtu
    | QueryStats
)


class Ready(_Message, frozen=True):
    """Pump to node: the loop runs; `engine` says in a sentence what moves super-frames."""

    pid: int
    engine: str = ""


class SpecialReceived(_Message, frozen=True):
    """Pump to node: a special frame of a neighbour, its UDP source, and what its length cannot tell."""

    peer: int
    source: Endpoint
    length: int
    uid: int | None
    all_zero: bool


class ProbeReceived(_Message, frozen=True):
    """Pump to node: a probe of this connection came from `source`; it was acknowledged."""

    peer: int
    source: Endpoint


class ProbeAcknowledged(_Message, frozen=True):
    """Pump to node: a probe arrived, `rtt` seconds ago and back.

    `sent`: data datagrams sent on this connection before the probe. `received`: how many of them had arrived, as the
    peer counts. `tx_bytes`, `rx_bytes`: UDP payload bytes of data in both directions, by our own counters.
    """

    peer: int
    size: int
    rtt: float
    sent: int
    received: int
    tx_bytes: int
    rx_bytes: int


class MtuHint(_Message, frozen=True):
    """Pump to node: an ICMP message claims that packets to this neighbour must not exceed `mtu` bytes."""

    peer: int
    mtu: int


class PacketTooBig(_Message, frozen=True):
    """Pump to node: the kernel refused a DF datagram to this neighbour (EMSGSIZE)."""

    peer: int


class SendFailed(_Message, frozen=True):
    """Pump to node: the kernel refused datagrams to this neighbour; said once per errno until it changes."""

    peer: int
    errno: int


class LearnedMac(msgspec.Struct, frozen=True):
    """A MAC address, the peer behind it, and when it was last seen (seconds, CLOCK_MONOTONIC)."""

    mac: str
    peer: int
    last_seen: float


class Stats(_Message, frozen=True):
    """Pump to node: counters since the pump started (name -> count), per neighbour counters, and the MAC table."""

    counters: dict[str, int]
    peers: dict[int, dict[str, int]]
    macs: list[LearnedMac]


class Complaint(_Message, frozen=True):
    """Pump to node: something a person should read (one sentence); the pump rate-limits it."""

    text: str


FromPump = (
    Ready
    | SpecialReceived
    | ProbeReceived
    | ProbeAcknowledged
    | MtuHint
    | PacketTooBig
    | SendFailed
    | Stats
    | Complaint
)


def _to_number(name: object) -> int:
    """A `PeerName` is an int, but msgspec encodes no subclasses of int."""
    if isinstance(name, int):
        return int(name)
    raise TypeError(f"{type(name).__name__} has no place in a message between node and pump")


_encoder = msgspec.msgpack.Encoder(enc_hook=_to_number)
_to_pump: msgspec.msgpack.Decoder[ToPump] = msgspec.msgpack.Decoder(ToPump)
_from_pump: msgspec.msgpack.Decoder[FromPump] = msgspec.msgpack.Decoder(FromPump)


def encode(message: ToPump | FromPump) -> bytes:
    """Give the packet for one message."""
    return _encoder.encode(message)


def decode_to_pump(packet: bytes) -> ToPump:
    """Read a packet of the node; raises msgspec.DecodeError."""
    return _to_pump.decode(packet)


def decode_from_pump(packet: bytes) -> FromPump:
    """Read a packet of the pump; raises msgspec.DecodeError."""
    return _from_pump.decode(packet)
