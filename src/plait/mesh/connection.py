"""One TCP connection as bytes in, messages out: handshake, framing, sealing, heartbeats and time limits.

No socket and no clock: the shell feeds bytes and time, writes what `data_to_send` gives, and closes on an error.
"""

from plait.errors import PlaitError
from plait.mesh import messages
from plait.mesh.handshake import Handshake, HandshakeError, HandshakeResult

# Weave Net's timers (spec mesh, section 12), seconds.
HEADER_TIMEOUT = 10.0
HANDSHAKE_TIMEOUT = 60.0
HEARTBEAT_INTERVAL = 30.0
READ_TIMEOUT = 60.0
_HEADER_BYTES = 7


class ConnectionTimeout(PlaitError):
    """The other end was silent for too long."""


class Connection:
    """A connection from its first byte on. Errors raised by any method end it."""

    def __init__(self, handshake: Handshake, now: float) -> None:
        self._handshake = handshake
        self._out = bytearray(handshake.start())
        self._heartbeat_due: float | None = None
        self._read_limit = now + HEADER_TIMEOUT
        self._received = 0
        self._handshake_limit = now + HANDSHAKE_TIMEOUT

    @property
    def result(self) -> HandshakeResult | None:
        """What the handshake agreed on, once it is over."""
        return self._handshake.result

    @property
    def has_heard(self) -> bool:
        """The other end has said something."""
        return self._received > 0

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the socket; raises FramingError, or HandshakeError: then `data_to_send` has last words."""
        result = self._handshake.result
        if result is not None:
            result.codec.feed(data)
            self._read_limit = now + READ_TIMEOUT
            return
        self._received += len(data)
        try:
            self._out += self._handshake.receive(data)
        except HandshakeError as error:
            self._out += error.last_words
            raise
        if self._handshake.result is not None:
            self._read_limit = now + READ_TIMEOUT
        elif self._received >= _HEADER_BYTES:
            self._read_limit = self._handshake_limit

    def ended(self) -> HandshakeError:
        """Say why the other end most likely closed the connection before the handshake was over."""
        return self._handshake.ended()

    def next_message(self) -> bytes | None:
        """Give the next complete message received, opened; None until one is there."""
        result = self._handshake.result
        return None if result is None else result.codec.next_message()

    def send(self, message: bytes) -> None:
        """Frame and seal a message; only after the handshake."""
        result = self._handshake.result
        if result is None:
            raise PlaitError("a message was to be sent before the handshake ended")
        self._out += result.codec.seal(message)

    def data_to_send(self) -> bytes:
        """Give and forget the bytes to write now."""
        data = bytes(self._out)
        self._out.clear()
        return data

    def start_heartbeats(self, now: float) -> None:
        """The connection was added to the mesh: from now on say so every 30 s."""
        self._heartbeat_due = now + HEARTBEAT_INTERVAL

    def next_deadline(self) -> float:
        """When `handle_timer` wants to be called next."""
        return self._read_limit if self._heartbeat_due is None else min(self._read_limit, self._heartbeat_due)

    def handle_timer(self, now: float) -> None:
        """Send a heartbeat if one is due; raises ConnectionTimeout after too long a silence."""
        if now >= self._read_limit:
            raise ConnectionTimeout(self._silence())
        if self._heartbeat_due is not None and now >= self._heartbeat_due:
            self._heartbeat_due += HEARTBEAT_INTERVAL
            self.send(messages.encode(messages.Heartbeat()))

    def _silence(self) -> str:
        if self.result is None:
            return (
                "the handshake was not finished in time: the other end is no Weave or plait peer, or it is overloaded"
            )
        return f"nothing was heard for {READ_TIMEOUT:.0f} s: the peer died or the network between is cut"
