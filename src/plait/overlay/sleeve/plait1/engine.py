"""Cutting super-frames into datagrams and joining them again: the interface, and its reference in Python.

What a datagram looks like is docs/protocol/sleeve2.md, section 4. The compiled engine does the same (tests run
against both). No socket, no table: a call has all it needs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from plait.overlay.sleeve.plait1 import keys
from plait.overlay.sleeve.plait1.keys import Key
from plait.overlay.sleeve.plait1.superframe import MAX_BLOB_BYTES, Layout, cleaned, layout, part
from plait.overlay.sleeve.plait1.wire import HEADER_BYTES, SEGMENT_FIELDS, TAG_BYTES, VNET_BYTES

MAX_SLICES = 128
MAX_SEND_SEGMENTS = 64
"""Datagrams of one UDP_SEGMENT send: kernels before 6.9 take no more (UDP_MAX_SEGMENTS)."""

MAX_SEND_BYTES = 65507
LAST = 0x80

_INDICES = [bytes((index,)) for index in range(MAX_SLICES)]
_LAST_INDICES = [bytes((index | LAST,)) for index in range(MAX_SLICES)]
_CONSECUTIVE = bytes(range(MAX_SLICES))

Buffer = bytes | memoryview


@dataclass(slots=True)
class Segments:
    """The datagrams of one super-frame: `per_datagram` buffers each, all but the last `size` bytes long.

    With `per_datagram` 0 there is one buffer, and the datagrams lie in it one behind the other.
    """

    buffers: list[Buffer]
    per_datagram: int
    count: int
    size: int
    total: int
    """Bytes of all datagrams."""

    def sends(self) -> Iterator[tuple[list[Buffer], int]]:
        """Give buffers and number of datagrams for one UDP_SEGMENT send each, of like length."""
        most = max(1, min(MAX_SEND_SEGMENTS, MAX_SEND_BYTES // self.size))
        calls = -(-self.count // most)
        if calls <= 1:
            yield self.buffers, self.count
            return
        each = -(-self.count // calls)
        for first in range(0, self.count, each):
            count = min(each, self.count - first)
            yield self._slice(first, count), count

    def _slice(self, first: int, count: int) -> list[Buffer]:
        if self.per_datagram:
            return self.buffers[first * self.per_datagram : (first + count) * self.per_datagram]
        return [memoryview(self.buffers[0])[first * self.size : (first + count) * self.size]]


@dataclass(slots=True)
class Run:
    """What `open_run` found."""

    next_at: int
    """Offset of the first datagram that is not part of the run; always further than the run's start."""
    frames: list[list[Buffer]] = field(default_factory=list)
    """Each in pieces; the first piece begins with the virtio-net header and the Ethernet header."""
    mask: int = 0
    """Indices delivered."""
    forged: int = 0
    malformed: int = 0
    replayed: int = 0


class Engine(Protocol):
    """What a loop needs done to each super-frame."""

    name: str

    def segment(
        self, blob: bytes, payload: memoryview, clear: bytes, sequence: int, slice_bytes: int, key: Key | None
    ) -> Segments:
        """Give the datagrams of a super-frame of at most MAX_SLICES slices; the payload is read until they are sent.

        They may lie in a buffer of the engine: they are good until the next call of `segment`.
        `blob`: clean virtio-net header and headers. `clear`: the clear header.
        """

    def open_run(
        self, data: bytearray, at: int, end: int, step: int, clear_bytes: int, seen: int, key: Key | None
    ) -> Run:
        """Take the run of segments that begins with the datagram at `at`, and give the frames of what came whole.

        The datagrams are `step` bytes long, but for the last, which ends at `end`. All of a run have the first one's
        clear header (`clear_bytes` long), slice and blob, and consecutive indices. `seen`: indices of this sequence
        that came before.

        The frames may lie in `data`, or in a buffer of the engine: they are good until the next call of `open_run`, so
        the caller writes them out, or copies what it keeps, before. `data` has at least `end` bytes; `at` < `end`.
        """


class PythonEngine:
    """The reference."""

    name = "python"

    def segment(
        self, blob: bytes, payload: memoryview, clear: bytes, sequence: int, slice_bytes: int, key: Key | None
    ) -> Segments:
        """See Engine."""
        starts = range(0, len(payload), slice_bytes)
        count = len(starts)
        indices = [*_INDICES[: count - 1], _LAST_INDICES[count - 1]]
        buffers: list[Buffer] = [b""] * (2 * count)
        if key is None:
            head = clear + SEGMENT_FIELDS.pack(slice_bytes, len(blob)) + blob
            buffers[1::2] = [payload[start : start + slice_bytes] for start in starts]
        else:
            associated = clear + SEGMENT_FIELDS.pack(slice_bytes, len(blob) + TAG_BYTES)
            head = associated + key.seal(keys.BLOB, 0, sequence, blob, associated)
            seal = key.seal
            buffers[1::2] = [
                seal(keys.PAYLOAD, index[0], sequence, payload[start : start + slice_bytes], associated)
                for index, start in zip(indices, starts, strict=True)
            ]
        buffers[0::2] = [head + index for index in indices]
        overhead = len(head) + 1 + (0 if key is None else TAG_BYTES)
        return Segments(buffers, 2, count, overhead + slice_bytes, count * overhead + len(payload))

    def open_run(
        self, data: bytearray, at: int, end: int, step: int, clear_bytes: int, seen: int, key: Key | None
    ) -> Run:
        """See Engine."""
        run = Run(min(at + step, end))
        fields_end = at + clear_bytes + SEGMENT_FIELDS.size
        if fields_end > run.next_at:
            run.malformed = 1
            return run
        slice_bytes, blob_bytes = SEGMENT_FIELDS.unpack_from(data, at + clear_bytes)
        if slice_bytes == 0 or fields_end + blob_bytes + 1 > run.next_at:
            run.malformed = 1
            return run
        head = bytes(data[at : fields_end + blob_bytes])
        count = _run_length(data, at, end, step, head)
        run.next_at = min(at + count * step, end)
        opener = _Opener(run, head, clear_bytes, slice_bytes, seen, key)
        if opener.open_blob(count):
            view = memoryview(data)
            index_at = len(head)
            if key is None and not seen and step == index_at + 1 + slice_bytes:
                opener.add_full(view, range(at + index_at, at + count * step, step), run.next_at)
                return run
            for start in range(at, at + count * step, step):
                opener.add(data[start + index_at], view[start + index_at + 1 : min(start + step, end)])
            opener.finish()
        return run


class _Opener:
    """Puts the payloads of one run together, a frame for each part without a gap."""

    __slots__ = (
        "_associated",
        "_blob",
        "_first",
        "_key",
        "_last",
        "_pieces",
        "_run",
        "_seen",
        "_sequence",
        "_slice",
        "_where",
    )

    def __init__(self, run: Run, head: bytes, clear_bytes: int, slice_bytes: int, seen: int, key: Key | None) -> None:
        self._run = run
        self._associated = head[: clear_bytes + SEGMENT_FIELDS.size]
        self._blob = head[clear_bytes + SEGMENT_FIELDS.size :]
        self._sequence = int.from_bytes(head[HEADER_BYTES - 8 : HEADER_BYTES], "big")
        self._slice = slice_bytes
        self._seen = seen
        self._key = key
        self._pieces: list[Buffer] = []
        self._first = self._last = 0

    def open_blob(self, datagrams: int) -> bool:
        """Open and check the blob; False, with all datagrams counted, if there is nothing to be had."""
        if self._key is not None:
            opened = self._key.open(keys.BLOB, 0, self._sequence, self._blob, self._associated)
            if opened is None:
                self._run.forged += datagrams
                return False
            self._blob = opened
        # A super-frame without payload is none, so one byte stands for it.
        where = layout(self._blob + b"\x00") if len(self._blob) <= MAX_BLOB_BYTES else None
        if where is None or where.payload != len(self._blob) or not _is_slice_of(where, self._slice):
            self._run.malformed += datagrams
            return False
        self._where = where
        return True

    def add_full(self, view: memoryview, indices_at: range, end: int) -> None:
        """Take all datagrams of a clear run of full slices at once; the last may be shorter, if it says that it is."""
        size = self._slice
        *full_at, last_at = indices_at
        self._pieces = [view[at : at + size] for at in [at + 1 for at in full_at]]
        if full_at:
            self._first, self._last = view[full_at[0]], view[full_at[-1]]
            self._run.mask = ((1 << len(full_at)) - 1) << self._first
        self.add(view[last_at], view[last_at + 1 : end])
        self.finish()

    def add(self, index: int, data: memoryview) -> None:
        """Take the next datagram of the run."""
        bit = 1 << (index & ~LAST)
        payload: Buffer | None = data
        if self._seen & bit:
            self._run.replayed += 1
            return self.finish()
        if self._key is not None:
            payload = self._key.open(keys.PAYLOAD, index, self._sequence, data, self._associated)
        if payload is None:
            self._run.forged += 1
            return self.finish()
        length = len(payload)
        if length != self._slice and not (index & LAST and 0 < length < self._slice):
            self._run.malformed += 1
            return self.finish()
        if not self._pieces:
            self._first = index & ~LAST
        self._run.mask |= bit
        self._last = index
        self._pieces.append(payload)
        return None

    def finish(self) -> None:
        """Make a frame of what came since the last gap."""
        pieces = self._pieces
        if not pieces:
            return
        is_last = bool(self._last & LAST)
        blob = self._blob
        if self._first or not is_last:
            payload_bytes = (len(pieces) - 1) * self._slice + len(pieces[-1])
            blob = part(blob, self._where, self._first * self._slice, payload_bytes, is_last)
        self._run.frames.append([blob, *pieces])
        self._pieces = []


def slice_size(where: Layout, room: int) -> int:
    """Give the slice for a super-frame where `room` payload bytes fit a datagram; 0 if it cannot be carried so."""
    gso = where.gso_size
    if not where.is_tcp:
        return gso if gso <= room else 0
    return max(room // gso * gso if gso <= room else room, 0)


def prepared(raw: memoryview, where: Layout, slice_bytes: int) -> list[tuple[bytes, memoryview]]:
    """Give blob and payload of a super-frame, as `segment` wants them: several if there are too many slices."""
    headers, payload = bytes(raw[VNET_BYTES : where.payload]), raw[where.payload :]
    blob = cleaned(raw[:VNET_BYTES], len(headers)) + headers
    if slice_bytes < where.gso_size:
        where = where._replace(gso_size=slice_bytes)
        blob = blob[:4] + slice_bytes.to_bytes(2, "little") + blob[6:]
    slices = -(-len(payload) // slice_bytes)
    count = -(-slices // MAX_SLICES)
    if count <= 1:
        return [(blob, payload)]
    # Evenly: the last would else be a single packet at times, whose headers are not those of a super-frame.
    starts = [slices * number // count * slice_bytes for number in range(count)]
    parts = []
    for at, end in zip(starts, [*starts[1:], len(payload)], strict=True):
        piece = payload[at:end]
        parts.append((part(blob, where, at, len(piece), end == len(payload)), piece))
    return parts


def _is_slice_of(where: Layout, slice_bytes: int) -> bool:
    return slice_bytes == where.gso_size or (where.is_tcp and slice_bytes % where.gso_size == 0)


def _run_length(data: bytearray, at: int, end: int, step: int, head: bytes) -> int:
    """Count the datagrams that begin with `head` and have consecutive indices, the last of a super-frame ending it."""
    indices = data[at + len(head) : end : step]
    first = indices[0] & ~LAST
    expected = _CONSECUTIVE[first : first + len(indices)]
    if indices[:-1] == expected[:-1] and len(expected) == len(indices) and indices[-1] & ~LAST == expected[-1]:
        count = len(indices)
    else:
        count = _consecutive(indices, first)
    startswith = data.startswith
    for number in range(1, count):
        if not startswith(head, at + number * step):
            return number
    return count


def _consecutive(indices: bytearray, first: int) -> int:
    for number, index in enumerate(indices):
        if index & ~LAST != first + number:
            return number
        if index & LAST:
            return number + 1
    return len(indices)
