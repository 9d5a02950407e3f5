"""Gossip channels and what waits to be sent on one connection.

A channel owner (`Gossiper`) merges what arrives and says what was new; the router decides who hears of it.
Pending data is merged, not queued: a slow link gets fewer messages but loses no information.
"""

from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from plait.errors import PlaitError
from plait.mesh import messages
from plait.mesh.name import PeerName

# A relay keeps at most this many unmerged messages per connection (unicasts, overlay control). A neighbour that does
# not drain them is dead or hostile; the read time-out ends such a connection, memory must not grow until then.
MAX_PENDING_MESSAGES = 4096


class GossipRefused(PlaitError):
    """A payload that a channel does not accept; ends the connection it came by."""


class GossipData(Protocol):
    """News on a channel that waits to be sent; encoded only when its turn comes, so that it is fresh."""

    def merged(self, newer: "GossipData") -> "GossipData":
        """Give one item that says what both say."""

    def encode(self) -> Iterable[bytes]:
        """Give the payloads, one message each."""


class Gossiper(Protocol):
    """The owner of a channel. Methods may raise PlaitError for a payload that must end the connection."""

    def everything(self) -> GossipData | None:
        """All that is known: sent to a new peer and periodically to some neighbours."""

    def receive(self, payload: bytes, now: float) -> GossipData | None:
        """Merge a neighbour's gossip; the answer is what was new, to be passed on."""

    def receive_broadcast(self, source: PeerName, payload: bytes, now: float) -> GossipData | None:
        """Merge a broadcast; the answer is what to relay along the source's tree."""

    def receive_unicast(self, source: PeerName, payload: bytes, now: float) -> None:
        """Take a message meant for this node alone."""


@dataclass(slots=True)
class _Sender:
    gossip: GossipData | None = None
    broadcasts: OrderedDict[PeerName, GossipData] = field(default_factory=OrderedDict)


class Outbox:
    """What waits to be written on one connection: ready messages first, then each channel's merged news."""

    def __init__(self, our_name: PeerName) -> None:
        self._our_name = our_name
        self._ready: deque[bytes] = deque()
        self._senders: OrderedDict[str, _Sender] = OrderedDict()
        self._encoded: deque[bytes] = deque()
        self.dropped = 0

    def __bool__(self) -> bool:
        return bool(
            self._ready or self._encoded or any(sender.gossip or sender.broadcasts for sender in self._senders.values())
        )

    def put(self, message: bytes) -> bool:
        """Queue an encoded message; False if the connection's backlog is full and the message was dropped."""
        if len(self._ready) >= MAX_PENDING_MESSAGES:
            self.dropped += 1
            return False
        self._ready.append(message)
        return True

    def gossip(self, channel: str, data: GossipData) -> None:
        """Add neighbour gossip, merged into what still waits."""
        sender = self._sender(channel)
        sender.gossip = data if sender.gossip is None else sender.gossip.merged(data)

    def broadcast(self, channel: str, source: PeerName, data: GossipData) -> None:
        """Add a broadcast that came from `source`, merged into what still waits of that source."""
        waiting = self._sender(channel).broadcasts
        waiting[source] = waiting[source].merged(data) if source in waiting else data

    def next_message(self) -> bytes | None:
        """Give the next message to write, or None."""
        while not (self._ready or self._encoded):
            if not self._encode_next():
                return None
        return self._ready.popleft() if self._ready else self._encoded.popleft()

    def _sender(self, channel: str) -> _Sender:
        return self._senders.setdefault(channel, _Sender())

    def _encode_next(self) -> bool:
        """Encode the news of the channel whose turn it is: its gossip before its broadcasts."""
        for channel, sender in self._senders.items():
            if sender.gossip is not None:
                data, sender.gossip = sender.gossip, None
                self._encoded.extend(
                    messages.encode(messages.Gossip(channel, self._our_name, payload)) for payload in data.encode()
                )
            elif sender.broadcasts:
                source, data = sender.broadcasts.popitem(last=False)
                self._encoded.extend(
                    messages.encode(messages.GossipBroadcast(channel, source, payload)) for payload in data.encode()
                )
            else:
                continue
            self._senders.move_to_end(channel)
            return True
        return False
