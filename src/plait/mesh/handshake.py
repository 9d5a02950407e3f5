"""The handshake of a mesh connection, protocol version 2 (spec mesh, section 2): bytes in, bytes out.

Time limits and the end of the stream are the caller's business, and so is who may be a neighbour.
"""

from dataclasses import dataclass
from enum import Enum, auto

from plait.errors import PlaitError
from plait.mesh import crypto
from plait.mesh.features import FeaturesError, LocalFeatures, RemoteFeatures, WrongFlavour
from plait.mesh.framing import MAX_BODY_BYTES, FrameCodec, FrameNotAuthentic, FramingError
from plait.mesh.gob import GobError

MAGIC = b"weave"
VERSION = 2
# Anybody may send so much before proving anything. Weave's features take about 200 bytes.
MAX_FEATURES_BYTES = 64 << 10

_HEADER_BYTES = len(MAGIC) + 2
_NO_PASSWORD, _HAS_PASSWORD = 0, 1


class HandshakeError(PlaitError):
    """The two ends cannot become neighbours. `last_words`: bytes to write before closing, lest only we know why."""

    last_words = b""


class NotAPeer(HandshakeError):
    """The other end speaks something else."""


class VersionMismatch(HandshakeError):
    """No version of the protocol is common to both."""


class PasswordMismatch(HandshakeError):
    """Only one of the two has a password."""


class WrongPassword(HandshakeError):
    """Both have a password, but not the same."""


class FlavourMismatch(HandshakeError):
    """The peer has another kind of peer names."""


class BadFeatures(HandshakeError):
    """The peer's features are not what the protocol asks for."""


@dataclass(frozen=True, slots=True)
class HandshakeResult:
    """What both ends agreed on.

    `connection_uid` (64 bits) and `session_key` (None without password) are the same at both; `codec` is past the
    features in both directions and holds what came after them.
    """

    features: RemoteFeatures
    connection_uid: int
    session_key: bytes | None
    codec: FrameCodec


# Both sides go the same steps:
#   HEADER    write "weave", lowest and highest version
#   FLAG      write whether there is a password, and if so a public key
#   FEATURES  write one frame with features, sealed if there is a password
#   DONE      the codec takes over
# Header and flag are written at once, as neither depends on what the other says. Features wait until the other has
# proved to be a peer of the same kind.
class _Step(Enum):
    HEADER = auto()
    FLAG = auto()
    FEATURES = auto()
    DONE = auto()


class Handshake:
    """One side of one handshake. After a HandshakeError write its `last_words` and close the connection."""

    def __init__(
        self, *, features: LocalFeatures, password: bytes | None, private_key: bytes, is_initiator: bool
    ) -> None:
        """`private_key`: 32 fresh random bytes; `is_initiator`: this side dialled. An empty password is none."""
        self.result: HandshakeResult | None = None
        self._features = features
        self._password = password or None
        self._private_key = private_key
        self._is_initiator = is_initiator
        self._step = _Step.HEADER
        self._buffer = bytearray()
        self._session_key: bytes | None = None
        self._codec: FrameCodec | None = None

    def start(self) -> bytes:
        """Give the bytes to write first."""
        header = MAGIC + bytes([VERSION, VERSION])
        if self._password is None:
            return header + bytes([_NO_PASSWORD])
        return header + bytes([_HAS_PASSWORD]) + crypto.public_key(self._private_key)

    def receive(self, data: bytes) -> bytes:
        """Take bytes from the connection and give those to write now; raises a kind of HandshakeError.

        After the end everything goes to the codec of the result.
        """
        if self._codec is not None:
            self._codec.feed(data)
            self._receive_features(self._codec)
            return b""
        self._buffer += data
        if self._step is _Step.HEADER and self._has_header():
            self._step = _Step.FLAG
        if self._step is _Step.FLAG and self._has_flag():
            return self._start_features()
        return b""

    def ended(self) -> HandshakeError:
        """Say why the other end, which need not tell, most likely closed the connection at this step.

        A Weave peer that reads our flag before it has written its own closes without writing it.
        """
        match self._step:
            case _Step.HEADER:
                return NotAPeer(
                    "the other end closed the connection within its first bytes: check the address and the port"
                )
            case _Step.FLAG:
                ours = "a password" if self._password else "no password"
                return PasswordMismatch(
                    f"the peer closed the connection when it heard that this node has {ours}: "
                    "most likely it differs in this; launch both with the same WEAVE_PASSWORD"
                )
        if self._password is not None:
            return WrongPassword(
                "the peer closed the connection when it was to prove its password: most likely it has another one "
                "than this node; launch both with the same WEAVE_PASSWORD"
            )
        return HandshakeError("the peer closed the connection during the handshake: its log says why")

    def _has_header(self) -> bool:
        received = bytes(self._buffer[:_HEADER_BYTES])
        if received[: len(MAGIC)] != MAGIC[: len(received)]:
            raise NotAPeer(
                f"the other end is no Weave or plait peer: it starts with {bytes(self._buffer[:16])!r}; check the "
                "address and the port"
            )
        if len(received) < _HEADER_BYTES:
            return False
        lowest, highest = received[len(MAGIC) :]
        if not (lowest <= VERSION and max(highest, lowest) >= VERSION) or highest < VERSION:
            raise VersionMismatch(_version_sentence(lowest, highest))
        del self._buffer[:_HEADER_BYTES]
        return True

    def _has_flag(self) -> bool:
        """Read flag and public key; True when they are complete and fit ours."""
        if not self._buffer:
            return False
        flag = self._buffer[0]
        if flag not in (_NO_PASSWORD, _HAS_PASSWORD):
            raise NotAPeer(f"the other end is no sound peer: it sent the encryption flag {flag}, which must be 0 or 1")
        if self._password is None:
            if flag == _HAS_PASSWORD:
                raise PasswordMismatch(
                    "the peer has a password but this node does not: launch both with the same WEAVE_PASSWORD"
                )
            del self._buffer[:1]
            return True
        if flag == _NO_PASSWORD:
            raise PasswordMismatch(
                "the peer has no password but this node does: launch both with the same WEAVE_PASSWORD"
            )
        if len(self._buffer) < 1 + crypto.KEY_BYTES:
            return False
        self._agree(bytes(self._buffer[1 : 1 + crypto.KEY_BYTES]), self._password)
        del self._buffer[: 1 + crypto.KEY_BYTES]
        return True

    def _agree(self, remote_public: bytes, password: bytes) -> None:
        try:
            self._session_key = crypto.session_key(self._private_key, remote_public, password)
        except crypto.WeakPublicKey as error:
            raise NotAPeer(str(error)) from error

    def _start_features(self) -> bytes:
        """Write our features; the other's may be here already."""
        self._step = _Step.FEATURES
        self._codec = FrameCodec(self._session_key, self._is_initiator)
        self._codec.max_body_bytes = MAX_FEATURES_BYTES
        self._codec.feed(bytes(self._buffer))
        self._buffer.clear()
        frame = self._codec.seal(self._features.encode())
        try:
            self._receive_features(self._codec)
        except HandshakeError as error:
            error.last_words = frame
            raise
        return frame

    def _receive_features(self, codec: FrameCodec) -> None:
        if self._step is not _Step.FEATURES:
            return
        message = _next_message(codec)
        if message is None:
            return
        remote = _read_features(message)
        codec.max_body_bytes = MAX_BODY_BYTES
        self._step = _Step.DONE
        uid = self._features.conn_id ^ remote.conn_id
        self.result = HandshakeResult(remote, uid, self._session_key, codec)


def _next_message(codec: FrameCodec) -> bytes | None:
    try:
        return codec.next_message()
    except FrameNotAuthentic as error:
        raise WrongPassword(
            "the peer has another password than this node: launch both with the same WEAVE_PASSWORD"
        ) from error
    except FramingError as error:
        raise BadFeatures(f"the peer's features are too long: {error}") from error


def _read_features(message: bytes) -> RemoteFeatures:
    try:
        return RemoteFeatures.decode(message)
    except WrongFlavour as error:
        raise FlavourMismatch(str(error)) from error
    except (FeaturesError, GobError) as error:
        raise BadFeatures(f"the peer's features cannot be read: {error}") from error


def _version_sentence(lowest: int, highest: int) -> str:
    versions = f"version {lowest}" if lowest == highest else f"versions {lowest} to {highest}"
    theirs = f"the peer speaks {versions} of the mesh protocol, this node only version {VERSION}"
    if highest < VERSION:
        return f"{theirs}: the peer is too old; upgrade it to Weave Net 2 or plait"
    return f"{theirs}: the peer insists on a newer one; upgrade this node"
