"""The pump's end of the pair of sockets to the node: never waits, and drops what a node that hangs does not read."""

import socket
from collections import deque
from collections.abc import Iterable, Iterator

from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.pump.packets import CHUNK_BYTES, Joiner, split

MAX_WAITING_PACKETS = 1024
"""For a node that does not read: what it misses then, it asks for again or hears again."""

_READ_BYTES = CHUNK_BYTES + 1


class NodeGone(Exception):
    """The node closed its end."""


class NodeChannel:
    """Messages in both directions."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.lost = 0
        """Messages dropped because the node does not read."""
        self._socket = sock
        self._joiner = Joiner()
        self._waiting: deque[bytes] = deque()

    @property
    def is_blocked(self) -> bool:
        """Packets wait until the socket is writable: call `flush` then."""
        return bool(self._waiting)

    def fileno(self) -> int:
        """Give the descriptor to poll."""
        return self._socket.fileno()

    def receive(self, limit: int) -> Iterator[ipc.ToPump]:
        """Give the messages of at most `limit` packets. Raises NodeGone."""
        for _ in range(limit):
            try:
                packet = self._socket.recv(_READ_BYTES)
            except BlockingIOError:
                return
            except ConnectionResetError:
                raise NodeGone from None
            if not packet:
                raise NodeGone
            message = self._joiner.add(packet)
            if message is not None:
                yield ipc.decode_to_pump(message)

    def send(self, messages: Iterable[ipc.FromPump]) -> None:
        """Send, or keep until `flush`."""
        for message in messages:
            packets = split(ipc.encode(message))
            if len(self._waiting) + len(packets) > MAX_WAITING_PACKETS:
                self.lost += 1
            else:
                self._waiting += packets
        self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it. Raises NodeGone."""
        while self._waiting:
            try:
                self._socket.send(self._waiting[0])
            except BlockingIOError:
                return
            except (BrokenPipeError, ConnectionResetError):
                raise NodeGone from None
            self._waiting.popleft()
