"""Frames of a mesh connection: a length and a message, sealed if the connection has a session key.

Both directions of one connection; does no input or output.
"""

from plait.errors import PlaitError
from plait.mesh import crypto

# Weave's limit of a frame's body, as it is sent: after sealing (spec mesh, section 3.1).
MAX_BODY_BYTES = 10 << 20

_LENGTH_BYTES = 4


class FramingError(PlaitError):
    """A frame that is too long or does not open; ends the connection."""


class FrameNotAuthentic(FramingError):
    """A frame sealed with another key, or damaged."""


class FrameCodec:
    """Seals messages into frames and takes frames out of a stream of bytes."""

    def __init__(self, session_key: bytes | None, is_initiator: bool) -> None:
        """`is_initiator`: this side dialled the TCP connection."""
        self.max_body_bytes = MAX_BODY_BYTES
        self._key = session_key
        self._is_initiator = is_initiator
        self._sent = 0
        self._received = 0
        self._buffer = bytearray()

    def seal(self, message: bytes) -> bytes:
        """Give the whole frame of a message; raises FramingError if it is too long. Write frames in this order."""
        if self._key is not None:
            message = crypto.seal(self._key, crypto.tcp_nonce(self._is_initiator, self._sent), message)
        if len(message) > MAX_BODY_BYTES:
            raise FramingError(
                f"a message of {len(message)} bytes was to be sent; peers take at most {MAX_BODY_BYTES} bytes: "
                "the network is too big for the protocol"
            )
        self._sent += 1
        return len(message).to_bytes(_LENGTH_BYTES, "big") + message

    def feed(self, data: bytes) -> None:
        """Take bytes from the connection; call `next_message` until it gives None before feeding more."""
        self._buffer += data

    def next_message(self) -> bytes | None:
        """Give the next message, None until a whole frame is there.

        Raises FramingError for a length over `max_body_bytes` (as soon as it is seen) and FrameNotAuthentic.
        """
        if len(self._buffer) < _LENGTH_BYTES:
            return None
        size = int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
        if size > self.max_body_bytes:
            raise FramingError(
                f"the peer announces a message of {size} bytes; at most {self.max_body_bytes} are allowed here: "
                "it is broken or no Weave or plait peer"
            )
        end = _LENGTH_BYTES + size
        if len(self._buffer) < end:
            return None
        with memoryview(self._buffer) as view:
            body = bytes(view[_LENGTH_BYTES:end])
        del self._buffer[:end]  # CPython moves only a pointer, so many frames in one buffer cost no copying
        return body if self._key is None else self._open(self._key, body)

    def _open(self, key: bytes, body: bytes) -> bytes:
        nonce = crypto.tcp_nonce(not self._is_initiator, self._received)
        try:
            message = crypto.open_sealed(key, nonce, body)
        except crypto.NotAuthentic as error:
            raise FrameNotAuthentic(
                f"message {self._received} of the peer does not open with the session key: something between the two "
                "peers changes the data"
            ) from error
        self._received += 1
        return message
