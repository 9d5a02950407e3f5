"""The messages of a mesh connection: one tag byte and a body each.

Refuses to encode what is known to kill a Weave peer (spec mesh, sections 6 and 9.7). Knows nothing of frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from plait.errors import PlaitError
from plait.mesh import gob
from plait.mesh.name import PeerName

TAG_HEARTBEAT = 0
TAGS_LEGACY_OVERLAY_CONTROL = range(1, 4)
TAG_GOSSIP = 4
TAG_GOSSIP_UNICAST = 5
TAG_GOSSIP_BROADCAST = 6
TAG_OVERLAY_CONTROL = 7

_NAME_MASK = (1 << 48) - 1
# The allocator of a Weave peer dies of an empty unicast, and never returns from one of another kind.
_UNICAST_KINDS_OF_CHANNEL = {"IPallocation": (b"\x00", b"\x01", b"\x02")}
_FILLER = b"\x00"


class HarmfulMessage(PlaitError):
    """A message that must not be sent, as peers could die of it or cannot understand it."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The connection lives."""


@dataclass(frozen=True, slots=True)
class LegacyOverlayControl:
    """Sleeve's control message to a peer that announced no overlays; tag 1 to 3."""

    tag: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Gossip:
    """News of a channel from a neighbour; `source` is that neighbour, not the origin."""

    channel: str
    source: PeerName
    payload: bytes


@dataclass(frozen=True, slots=True)
class GossipUnicast:
    """A message of a channel from one peer to another, relayed by those between."""

    channel: str
    source: PeerName
    destination: PeerName
    payload: bytes


@dataclass(frozen=True, slots=True)
class GossipBroadcast:
    """A message of a channel from its origin `source` to all peers."""

    channel: str
    source: PeerName
    payload: bytes


@dataclass(frozen=True, slots=True)
class OverlayControl:
    """A message between the two ends of an overlay; `index` counts in the list of *common* overlays."""

    index: int
    tag: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class UnknownMessage:
    """A message to be ignored: empty (tag None), of an unknown tag, or too short for its kind."""

    tag: int | None


Message = Heartbeat | LegacyOverlayControl | Gossip | GossipUnicast | GossipBroadcast | OverlayControl | UnknownMessage


def encode(message: Message) -> bytes:
    """Give the bytes of a message; raises HarmfulMessage, or GobError for texts that are no UTF-8.

    A legacy control message without payload gets one byte of filler, which its receiver ignores: a body that is empty
    kills peers that did announce overlays.
    """
    check_harmless(message)
    match message:
        case Heartbeat():
            return bytes([TAG_HEARTBEAT])
        case LegacyOverlayControl(tag, payload):
            return bytes([tag]) + (payload or _FILLER)
        case Gossip(channel, source, payload):
            return bytes([TAG_GOSSIP]) + _envelope.stream(channel, source, payload)
        case GossipUnicast(channel, source, destination, payload):
            return bytes([TAG_GOSSIP_UNICAST]) + _unicast_envelope.stream(channel, source, destination, payload)
        case GossipBroadcast(channel, source, payload):
            return bytes([TAG_GOSSIP_BROADCAST]) + _envelope.stream(channel, source, payload)
        case OverlayControl(index, tag, payload):
            return bytes([TAG_OVERLAY_CONTROL, index, tag]) + payload
        case UnknownMessage(tag):
            raise HarmfulMessage(f"a message of unknown kind {tag} was to be sent; nobody would understand it")


def decode(data: bytes) -> Message:
    """Read a message; raises GobError for a damaged gossip message, which ends the connection.

    Sources and destinations beyond 48 bits keep their last 48, which is how Weave prints them.
    """
    if not data:
        return UnknownMessage(None)
    tag = data[0]
    if tag == TAG_HEARTBEAT:
        return Heartbeat()
    if tag in TAGS_LEGACY_OVERLAY_CONTROL:
        return LegacyOverlayControl(tag, data[1:])
    if tag == TAG_OVERLAY_CONTROL and len(data) > 2:
        return OverlayControl(data[1], data[2], data[3:])
    if tag == TAG_GOSSIP:
        return Gossip(*_decode_envelope(data))
    if tag == TAG_GOSSIP_BROADCAST:
        return GossipBroadcast(*_decode_envelope(data))
    if tag == TAG_GOSSIP_UNICAST:
        channel, source, destination, payload = _decode_values(data, _UNICAST_ENVELOPE)
        return GossipUnicast(channel, _name(source), _name(destination), payload)
    return UnknownMessage(tag)


def check_harmless(message: Message) -> None:
    """Raise HarmfulMessage if a Weave peer could die of this message; relays should ask too, as they do not encode."""
    match message:
        case LegacyOverlayControl(tag, _) if tag not in TAGS_LEGACY_OVERLAY_CONTROL:
            raise HarmfulMessage(f"legacy overlay control has the tags 1 to 3, not {tag}")
        case OverlayControl(index, tag, _) if not (0 <= index < 256 and 0 <= tag < 256):
            raise HarmfulMessage(f"overlay index {index} and tag {tag} must be bytes")
        case GossipUnicast(channel, source, _, payload) if channel in _UNICAST_KINDS_OF_CHANNEL:
            if payload[:1] not in _UNICAST_KINDS_OF_CHANNEL[channel]:
                raise HarmfulMessage(
                    f"a {channel} message of {source} starts with {payload[:1].hex() or 'nothing'}, which would kill a "
                    "Weave peer: it is not sent"
                )


_ENVELOPE: tuple[gob.Type, ...] = (gob.STRING, gob.UINT, gob.BYTES)
_UNICAST_ENVELOPE: tuple[gob.Type, ...] = (gob.STRING, gob.UINT, gob.UINT, gob.BYTES)
_envelope = gob.Encoder(*_ENVELOPE)
_unicast_envelope = gob.Encoder(*_UNICAST_ENVELOPE)


def _decode_envelope(data: bytes) -> tuple[str, PeerName, bytes]:
    channel, source, payload = _decode_values(data, _ENVELOPE)
    return channel, _name(source), payload


def _decode_values(data: bytes, kinds: Sequence[gob.Type]) -> list[Any]:
    decoder = gob.Decoder(data, position=1)
    return [decoder.value(kind) for kind in kinds]


def _name(value: int) -> PeerName:
    return PeerName(value & _NAME_MASK)
