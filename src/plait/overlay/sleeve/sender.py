"""How a frame fits a link, and how frames for one link become UDP payloads (spec: sleeve, section 8).

Two ways exist: the DF socket, whose datagrams may not be fragmented on the way, and the plain socket, whose may.
The kernel's calls are the pump's business.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

from plait.overlay.ethernet import ETHERTYPE_IPV4, HEADER_BYTES, ipv4_header_bytes
from plait.overlay.sleeve.crypto import Sealer
from plait.overlay.sleeve.datagram import (
    MAX_FRAME_BYTES,
    MAX_PAYLOAD_BYTES,
    RECORD_HEADER,
    RECORD_HEADER_BYTES,
    datagram_overhead,
)
from plait.overlay.sleeve.icmp import IPV6_MIN_MTU, is_ipv6
from plait.overlay.sleeve.ipc import Endpoint

UNKNOWN_MTU = 65535
"""What a link is said to carry before its path is known."""

MAX_BURST_FRAMES = 100
"""Flush a batch after so many frames, as Weave does, so that a full queue does not delay its first frame."""

MAX_SEGMENTS = 16
"""Datagrams of one send: Weave's receive buffer holds about 90, several neighbours may send at once."""

_FLAGS_AT = HEADER_BYTES + 6
_DF_BIT = 0x40


@dataclass(frozen=True, slots=True)
class Path:
    """Where a neighbour is and what fits: `mtu` for overlay packets, `max_payload` for UDP payloads with DF."""

    remote: Endpoint | None = None
    mtu: int = UNKNOWN_MTU
    max_payload: int = MAX_PAYLOAD_BYTES
    stack_frag: bool = False
    """Fragments of outer datagrams are known to reach the neighbour."""


class Way(IntEnum):
    """What to do with a frame."""

    DF_SOCKET = 0
    PLAIN_SOCKET = 1
    INNER_FRAGMENTS = 2
    """Cut the IPv4 packet and send the pieces on the DF socket."""
    TOO_BIG = 3
    """Answer its sender with ICMP (icmp.too_big_answer)."""
    DROP_NO_ADDRESS = 4
    """The neighbour's UDP address is not known yet."""
    DROP_BROADCAST_TOO_BIG = 5
    """A broadcast copy that may not be fragmented; answering all copies would flood the sender."""


def choose_way(frame: bytes, path: Path, is_broadcast: bool) -> Way:
    """Decide how a frame of at least 14 bytes goes to a neighbour."""
    if path.remote is None:
        return Way.DROP_NO_ADDRESS
    fits = len(frame) <= path.mtu + HEADER_BYTES
    if frame[12:14] == ETHERTYPE_IPV4 and ipv4_header_bytes(frame):
        if frame[_FLAGS_AT] & _DF_BIT:
            if fits:
                return Way.DF_SOCKET
            return Way.DROP_BROADCAST_TOO_BIG if is_broadcast else Way.TOO_BIG
        if path.stack_frag:
            return Way.PLAIN_SOCKET
        return Way.DF_SOCKET if fits else Way.INNER_FRAGMENTS
    if fits or path.stack_frag or is_broadcast:
        return Way.PLAIN_SOCKET
    # IPv6 packets are not fragmented on the way, and here outer fragments are not known to arrive.
    is_too_big = len(frame) > IPV6_MIN_MTU + HEADER_BYTES and is_ipv6(frame)
    return Way.TOO_BIG if is_too_big else Way.PLAIN_SOCKET


class Batcher:
    """Packs the frames for one socket of one link, in order.

    A payload is filled up to `max_payload`. On the plain socket a single frame may fill a whole UDP datagram.
    Frames of one size give payloads of one size, so bulk traffic can leave in runs (`segment_runs`).
    """

    def __init__(self, sender: bytes, sealer: Sealer | None, *, df: bool, max_payload: int) -> None:
        """`sender`: our name. `sealer`: None on an unencrypted connection."""
        self.max_payload = max_payload
        self._head = [] if sealer else [sender]
        self._sealer = sealer
        self._df = df
        self._overhead = datagram_overhead(sealer is not None)
        self._payloads: list[bytes] = []
        self._parts: list[bytes] = []
        self._room = 0

    def add(self, src: bytes, dst: bytes, frame: bytes) -> bool:
        """Append a frame; False, with nothing changed for the others, if it fits no datagram of this socket."""
        length = len(frame)
        size = RECORD_HEADER_BYTES + length
        if size > self._room:
            limit = self.max_payload if self._df else MAX_PAYLOAD_BYTES
            if self._overhead + size > limit or length > MAX_FRAME_BYTES:
                return False
            self._close()
            self._parts = self._head.copy()
            self._room = self.max_payload - self._overhead
        self._room -= size
        self._parts += (RECORD_HEADER.pack(src, dst, length), frame)
        return True

    def flush(self) -> list[bytes]:
        """Give the payloads of all frames since the last flush. Raises SequencesSpent."""
        self._close()
        payloads, self._payloads = self._payloads, []
        return payloads

    def _close(self) -> None:
        self._room = 0
        if not self._parts:
            return
        joined = b"".join(self._parts)
        self._parts = []
        self._payloads.append(self._sealer.seal(joined, self._df) if self._sealer else joined)


def segment_runs(
    payloads: Sequence[bytes], max_segment: int, max_segments: int = MAX_SEGMENTS
) -> Iterator[Sequence[bytes]]:
    """Split payloads into runs for one UDP_SEGMENT send each: all but a run's last are of equal size.

    Payloads above `max_segment` bytes (which the kernel would have to fragment) come alone.
    """
    start = 0
    while start < len(payloads):
        stop = _run_end(payloads, start, max_segment, max_segments)
        yield payloads[start:stop]
        start = stop


def _run_end(payloads: Sequence[bytes], start: int, max_segment: int, max_segments: int) -> int:
    size = total = len(payloads[start])
    stop = start + 1
    if size > max_segment:
        return stop
    limit = min(len(payloads), start + max_segments)
    while stop < limit and len(payloads[stop]) == size and total + size <= MAX_PAYLOAD_BYTES:
        total += size
        stop += 1
    has_tail = stop < limit and 0 < len(payloads[stop]) < size and total + len(payloads[stop]) <= MAX_PAYLOAD_BYTES
    return stop + has_tail
