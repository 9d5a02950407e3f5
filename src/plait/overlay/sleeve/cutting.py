"""Super-frames towards a Weave peer and back: cut into Ethernet frames with finished checksums, joined again.

A Weave peer knows no virtio-net header. Sums of 16-bit words are taken as integers modulo 0xffff (see
`internet_checksum`); a checksum of 0 is written 0xffff, which means the same and which UDP demands, as the kernel's
skb_checksum_help does. Joining is in coalescing.py.
"""

from collections.abc import Sequence
from struct import Struct
from typing import NamedTuple, Protocol

from plait.overlay.ethernet import HEADER_BYTES
from plait.overlay.sleeve.checksum import WordSums, fastest_word_sums, word_sum, word_sums
from plait.overlay.sleeve.coalescing import coalesce
from plait.overlay.sleeve.plait1.superframe import NEEDS_CSUM, PLAIN_VNET, Layout
from plait.overlay.sleeve.plait1.wire import VNET_BYTES

_U16 = Struct(">H")
_U32 = Struct(">I")
_IPV4_CHANGING = Struct(">H4sH")
"""Of an IPv4 header from the identification on: it, what stays, the header checksum."""

_MIN_RAW_BYTES = VNET_BYTES + HEADER_BYTES
_IPV6_BYTES = 40
_MAX_IP_LENGTH = 0xFFFF
_TCP_CHECKSUM, _UDP_CHECKSUM = 16, 6
_FIN_PSH, _CWR = 0x09, 0x80


class Cutter(Protocol):
    """What a link to a Weave peer needs done to frames. `raw` is a virtio-net header and a frame, as a tap has it."""

    name: str

    def finish_checksum(self, raw: bytes) -> bytes:
        """Give the frame of a single packet without virtio-net header, its checksum finished if that is asked for.

        Where the checksum is said to be outside the frame, it is given as it came, for its receiver to refuse.
        """

    def cut(self, raw: bytes | memoryview, where: Layout, max_payload: int | None = None) -> list[bytes]:
        """Give the frames that a super-frame stands for, `where` being its layout.

        `max_payload`: TCP payload bytes of a frame, if that is less than gso_size. Raises ValueError if it is not
        positive. Gives nothing if a frame would be longer than IP can say.
        """

    def coalesce(self, frames: Sequence[bytes]) -> list[bytes]:
        """Give the frames of a burst as a tap takes them, those that continue each other as one; see coalescing.py."""


class PythonCutter:
    """The reference."""

    name = "python"

    def __init__(self, joins: bool = False, sums_of: WordSums | None = None) -> None:
        """`sums_of` is by default the fastest there is.

        `joins`: whether `coalesce` joins. In Python that costs as much (3.6 us a frame) as it saves, or more: a stream
        between two taps ran at 1.6 Gbit/s with it, at 2.2 without; with the compiled cutter at 6.5 and 2.9.
        """
        self._joins = joins
        self._sums_of = sums_of or fastest_word_sums()

    def finish_checksum(self, raw: bytes) -> bytes:
        """See Cutter."""
        return finish_checksum(raw)

    def cut(self, raw: bytes | memoryview, where: Layout, max_payload: int | None = None) -> list[bytes]:
        """See Cutter."""
        return cut(raw, where, max_payload, self._sums_of)

    def coalesce(self, frames: Sequence[bytes]) -> list[bytes]:
        """See Cutter."""
        return coalesce(frames) if self._joins else [PLAIN_VNET + frame for frame in frames]


def finish_checksum(raw: bytes) -> bytes:
    """See Cutter."""
    if len(raw) < _MIN_RAW_BYTES or not raw[0] & NEEDS_CSUM:
        return raw[VNET_BYTES:]
    start = VNET_BYTES + (raw[6] | raw[7] << 8)
    at = start + (raw[8] | raw[9] << 8)
    if start < _MIN_RAW_BYTES or at + 2 > len(raw):
        return raw[VNET_BYTES:]
    checksum = 0xFFFF - word_sum(raw[start:])
    return raw[VNET_BYTES:at] + checksum.to_bytes(2, "big") + raw[at + 2 :]


def frame_payload(where: Layout, max_payload: int | None) -> int:
    """Give the bytes of payload in each frame but the last; see `Cutter.cut` for `max_payload`. Raises ValueError."""
    if max_payload is None or not where.is_tcp:
        return where.gso_size
    if max_payload < 1:
        raise ValueError(f"frames with {max_payload} bytes of payload carry nothing")
    return min(where.gso_size, max_payload)


def cut(
    raw: bytes | memoryview, where: Layout, max_payload: int | None = None, sums_of: WordSums = word_sums
) -> list[bytes]:
    """See Cutter."""
    payload = raw[where.payload :]
    size = min(frame_payload(where, max_payload), len(payload))
    if where.payload - where.ip + size > _MAX_IP_LENGTH:
        return []
    sums = sums_of(payload, size)
    template = _Template(raw, where)
    whole = len(payload) // size
    frames = template.frames(payload, size, range(whole), sums)
    if whole * size < len(payload):
        frames += template.frames(payload, size, range(whole, whole + 1), sums)
    return frames


class _Changing(NamedTuple):
    """The fields of a super-frame that differ from frame to frame, as they are in the first."""

    identification: int
    sequence: int
    flags: int


class _Template:
    """The headers of a super-frame, to be filled in for each frame."""

    __slots__ = ("_first", "_fixed_sum", "_head", "_ip", "_ip_sum", "_l4", "_where")

    def __init__(self, raw: bytes | memoryview, where: Layout) -> None:
        self._where = where
        self._head = head = bytearray(raw[VNET_BYTES : where.payload])
        self._ip, self._l4 = ip, l4 = where.ip - VNET_BYTES, where.l4 - VNET_BYTES
        identification = 0 if where.is_ipv6 else _U16.unpack_from(head, ip + 4)[0]
        sequence, flags = (_U32.unpack_from(head, l4 + 4)[0], head[l4 + 13]) if where.is_tcp else (0, 0)
        self._first = _Changing(identification, sequence, flags)
        # The checksum of a super-frame is the sum of its pseudo header, which includes its length.
        (pseudo,) = _U16.unpack_from(head, self._checksum_at)
        self._fixed_sum = int(pseudo) - self._length()
        self._clear()
        self._fixed_sum += word_sum(bytes(head[l4:]))
        self._ip_sum = 0 if where.is_ipv6 else word_sum(bytes(head[ip:l4]))

    def frames(self, payload: bytes | memoryview, size: int, numbers: range, sums: Sequence[int]) -> list[bytes]:
        """Give the frames `numbers`, which are of like length, `size` being that of all but the last of the packet."""
        where, head = self._where, self._head
        l4_bytes = len(head) - self._l4 + min(size, len(payload) - numbers.start * size)
        ip_length = self._set_lengths(l4_bytes)
        fixed = self._fixed_sum + (l4_bytes if where.is_tcp else 2 * l4_bytes)
        ip_fixed = self._ip_sum + ip_length
        ip_at, sequence_at, checksum_at = self._ip + 4, self._l4 + 4, self._checksum_at
        kept = bytes(head[ip_at + 2 : ip_at + 6])
        first = self._first
        last = (len(payload) - 1) // size
        join, set_ipv4, set_u16, set_u32 = b"".join, _IPV4_CHANGING.pack_into, _U16.pack_into, _U32.pack_into
        frames = []
        for number in numbers:
            at = number * size
            total = fixed + sums[number]
            if not where.is_ipv6:
                identification = (first.identification + number) & 0xFFFF
                set_ipv4(head, ip_at, identification, kept, -(ip_fixed + identification) % 0xFFFF)
            if where.is_tcp:
                sequence = (first.sequence + at) & 0xFFFFFFFF
                flags = first.flags & ~((_FIN_PSH if number != last else 0) | (_CWR if number else 0))
                set_u32(head, sequence_at, sequence)
                head[sequence_at + 9] = flags
                total += sequence + flags
            set_u16(head, checksum_at, 0xFFFF - total % 0xFFFF)
            frames.append(join((head, payload[at : at + size])))
        return frames

    @property
    def _checksum_at(self) -> int:
        return self._l4 + (_TCP_CHECKSUM if self._where.is_tcp else _UDP_CHECKSUM)

    def _length(self) -> int:
        """Give the length of TCP or UDP with payload, as IP has it."""
        if self._where.is_ipv6:
            return int(_U16.unpack_from(self._head, self._ip + 4)[0]) + _IPV6_BYTES - (self._l4 - self._ip)
        return int(_U16.unpack_from(self._head, self._ip + 2)[0]) - (self._l4 - self._ip)

    def _set_lengths(self, l4_bytes: int) -> int:
        """Write the lengths of IP and UDP; gives that of IPv4."""
        ip_length = self._l4 - self._ip + l4_bytes
        if self._where.is_ipv6:
            _U16.pack_into(self._head, self._ip + 4, ip_length - _IPV6_BYTES)
        else:
            _U16.pack_into(self._head, self._ip + 2, ip_length)
        if not self._where.is_tcp:
            _U16.pack_into(self._head, self._l4 + 4, l4_bytes)
        return ip_length

    def _clear(self) -> None:
        """Make all zero that is not the same in each frame, so that it adds nothing to sums."""
        head, ip, l4 = self._head, self._ip, self._l4
        if not self._where.is_ipv6:
            head[ip + 2 : ip + 6] = bytes(4)
            head[ip + 10 : ip + 12] = bytes(2)
        if self._where.is_tcp:
            head[l4 + 4 : l4 + 8] = bytes(4)
            head[l4 + 13] = 0
        else:
            head[l4 + 4 : l4 + 6] = bytes(2)
        head[self._checksum_at : self._checksum_at + 2] = bytes(2)
