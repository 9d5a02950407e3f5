"""Encrypted datagrams: NaCl secretbox with sequence numbers as nonces, and the replay window of the receiver.

Keys come from the mesh handshake. One sealer and one opener serve one connection; there is no rekeying
(spec: sleeve, section 3).
"""

from enum import Enum

from nacl.bindings import crypto_secretbox, crypto_secretbox_open
from nacl.exceptions import CryptoError

from plait.errors import PlaitError
from plait.mesh.name import NAME_BYTES
from plait.overlay.sleeve.datagram import SEQUENCE_BYTES

SEQUENCE_LIMIT = 1 << 63
WINDOW_BITS = 20
"""A replay window covers 2**20 sequence numbers; two are kept, 128 KiB each when full."""

DIRECTIONS = (bytes(16), b"\x80" + bytes(15))
"""Of a nonce what comes before the sequence: sent by who accepted the TCP connection, and by who dialled it."""

_DF_BIT = 1 << 63
_BOX_AT = NAME_BYTES + SEQUENCE_BYTES
_OFFSET_MASK = (1 << WINDOW_BITS) - 1
_GROWTH_BYTES = 4096


class SequencesSpent(PlaitError):
    """A connection has no sequence number left; using one twice would give the key stream away."""


class Rejection(Enum):
    """Why an encrypted datagram was dropped."""

    TOO_SHORT = "encrypted datagram too short for its sequence number"
    FORGED = "encrypted datagram not sealed with this connection's key"
    REPLAYED = "datagram received before, or too old to tell"


class Sealer:
    """The sending end: two counters, because the receiver keeps one window per DF flag."""

    def __init__(self, name: bytes, key: bytes, *, is_outbound: bool, first_sequence: int) -> None:
        """`is_outbound`: this side dialled the TCP connection. Both counters start at `first_sequence`."""
        self.next_sequence = {True: first_sequence, False: first_sequence}
        self._name = name
        self.key = key
        self.is_outbound = is_outbound
        self._nonce_head = DIRECTIONS[is_outbound]

    def seal(self, records: bytes, df: bool) -> bytes:
        """Give the UDP payload for encoded records. `df`: it leaves with the DF bit. Raises SequencesSpent."""
        sequence = self.next_sequence[df]
        if sequence >= SEQUENCE_LIMIT:
            raise SequencesSpent("sleeve ran out of sequence numbers on a connection; reconnect the peer")
        self.next_sequence[df] = sequence + 1
        clear = (sequence | _DF_BIT if df else sequence).to_bytes(SEQUENCE_BYTES, "big")
        return self._name + clear + crypto_secretbox(records, self._nonce_head + clear, self.key)


class Opener:
    """The receiving end. `is_outbound` is again this side's role, not the sender's."""

    def __init__(self, key: bytes, *, is_outbound: bool) -> None:
        self.key = key
        self.is_outbound = is_outbound
        self._nonce_head = DIRECTIONS[not is_outbound]
        self.windows = ReplayWindow(), ReplayWindow()
        """Of datagrams without DF, and with it."""

    def open(self, payload: bytes) -> bytes | Rejection:
        """Give the encoded records of a UDP payload, or why there are none."""
        clear = payload[NAME_BYTES:_BOX_AT]
        if len(clear) < SEQUENCE_BYTES:
            return Rejection.TOO_SHORT
        try:
            records = crypto_secretbox_open(payload[_BOX_AT:], self._nonce_head + clear, self.key)
        except CryptoError:
            return Rejection.FORGED
        number = int.from_bytes(clear, "big")
        window = self.windows[number >= _DF_BIT]
        return records if window.accept(number & ~_DF_BIT) else Rejection.REPLAYED

    def accept(self, first: int, count: int) -> None:
        """Note datagrams that somebody else opened: new ones, `count` of them from a number with its DF flag on."""
        self.windows[first >= _DF_BIT].accept_new(first & ~_DF_BIT, count)


class ReplayWindow:
    """Accepts each sequence number once, within the current window and the one before. Ask after authentication."""

    def __init__(self) -> None:
        self.window = 0
        self.next = 0
        """Nothing came from here on."""
        self._current = bytearray()
        self._previous = bytearray()

    def accept(self, sequence: int) -> bool:
        """Say whether the number is new, and remember it."""
        if sequence >= self.next:
            self.next = sequence + 1
        ahead = (sequence >> WINDOW_BITS) - self.window
        if ahead == 0:
            seen = self._current
        elif ahead == -1:
            seen = self._previous
        elif ahead < 0:
            return False
        else:
            self._previous = self._current if ahead == 1 else bytearray()
            self._current = seen = bytearray()
            self.window += ahead
        return _set_bit(seen, sequence & _OFFSET_MASK)

    def accept_new(self, first: int, count: int) -> None:
        """Remember `count` numbers of which none came before, nor any higher one."""
        while count > 0:
            in_window = min(count, _OFFSET_MASK + 1 - (first & _OFFSET_MASK))
            self.accept(first)
            _set_free_bits(self._current, first & _OFFSET_MASK, in_window)
            self.next = first = first + in_window
            count -= in_window


def _set_bit(bitmap: bytearray, offset: int) -> bool:
    """Set a bit, growing the bitmap as numbers come; False if it was set."""
    index = offset >> 3
    bit = 1 << (offset & 7)
    if index >= len(bitmap):
        bitmap.extend(bytes(index - len(bitmap) + _GROWTH_BYTES))
    elif bitmap[index] & bit:
        return False
    bitmap[index] |= bit
    return True


def _set_free_bits(bitmap: bytearray, offset: int, count: int) -> None:
    """Set bits from `offset` on, behind which none is set, growing the bitmap if need be."""
    index = offset >> 3
    bits = ((1 << count) - 1 << (offset & 7)).to_bytes((count + (offset & 7) + 7) // 8, "little")
    end = index + len(bits)
    if end > len(bitmap):
        bitmap.extend(bytes(end - len(bitmap) + _GROWTH_BYTES))
    bitmap[index] |= bits[0]
    bitmap[index + 1 : end] = bits[1:]
