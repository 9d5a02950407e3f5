"""ipc messages as packets the kernel can always hold: a long one (routes, MAC tables) is cut and joined again."""

from plait.errors import PlaitError

CHUNK_BYTES = 60_000
"""Of a message in one packet; a unix datagram beyond some 100 kB needs memory in one piece, which may be lacking."""

MAX_MESSAGE_BYTES = 64 << 20
"""Routes of 1000 peers seen from a hub take 10 MB: this is a guard against a confused other side, not a budget."""

_LAST = b"\x00"
_MORE = b"\x01"


class BrokenChannel(PlaitError):
    """The other process of the pair does not keep to the form of packets."""


def split(message: bytes) -> list[bytes]:
    """Give the packets of a message."""
    cuts = range(0, max(len(message), 1), CHUNK_BYTES)
    chunks = [message[at : at + CHUNK_BYTES] for at in cuts]
    return [_MORE + chunk for chunk in chunks[:-1]] + [_LAST + chunks[-1]]


class Joiner:
    """Puts the packets of one direction together again."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0

    def add(self, packet: bytes) -> bytes | None:
        """Take a packet; gives the message it completes. Raises BrokenChannel."""
        if packet[:1] not in (_LAST, _MORE):
            raise BrokenChannel("node and pump do not understand each other: a packet begins with an unknown mark")
        self._parts.append(packet[1:])
        self._size += len(packet) - 1
        if self._size > MAX_MESSAGE_BYTES:
            raise BrokenChannel("node and pump do not understand each other: a message does not end")
        if packet[:1] == _MORE:
            return None
        message = b"".join(self._parts)
        self._parts, self._size = [], 0
        return message
