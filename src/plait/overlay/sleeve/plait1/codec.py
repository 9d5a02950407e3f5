"""One connection's two ends: datagrams of plait1 made and opened, with sequences, keys and the replay window.

Pure: times and sockets are the pump's. What super-frames become is the engine's business (engine.py).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from plait.mesh.name import NAME_BYTES
from plait.overlay.sleeve.plait1 import keys, wire
from plait.overlay.sleeve.plait1.engine import Buffer, Engine, Run, Segments, prepared, slice_size
from plait.overlay.sleeve.plait1.keys import Key, KeySchedule
from plait.overlay.sleeve.plait1.replay import ReplayWindow
from plait.overlay.sleeve.plait1.superframe import MAX_BLOB_BYTES, MIN_RAW_BYTES, Layout, is_sound
from plait.overlay.sleeve.plait1.wire import HEADER_BYTES, IP_UDP_BYTES, RECORD_LENGTH, RELAY_BYTES, TAG_BYTES, Kind

_HEADER = wire.HEADER
_NONCE_KINDS = {Kind.RECORDS: keys.RECORDS, Kind.PROBE: keys.PROBE, Kind.ACK: keys.ACK}


class SequencesSpent(Exception):
    """64 bits of sequence are used up, which takes half a million years at a million a second."""


class Sealer:
    """The sending end of a connection to one neighbour."""

    def __init__(self, us: bytes, engine: Engine, schedule: KeySchedule | None, first_sequence: int) -> None:
        self._us = us
        self._engine = engine
        self._schedule = schedule
        self._next = first_sequence
        self._tag_bytes = 0 if schedule is None else TAG_BYTES

    def set_schedule(self, schedule: KeySchedule) -> None:
        """Seal with other keys from now on; sequences go on."""
        self._schedule = schedule

    @property
    def next_sequence(self) -> int:
        """The sequence of the next datagram. Who seals in its place sets it to what it left over."""
        return self._next

    @next_sequence.setter
    def next_sequence(self, sequence: int) -> None:
        self._next = sequence

    def key_ahead(self) -> tuple[Key | None, int]:
        """Give the key of the next sequence, None on a plain connection, and the first sequence that is not its."""
        if self._schedule is None:
            return None, wire.SEQUENCE_LIMIT
        sequence = self._next
        key = self._schedule.key(sequence)
        self._schedule.used(sequence, key)
        return key, keys.epoch_of(sequence)[1] + 1

    def room_for_records(self, max_payload: int, relay: bytes) -> int:
        """Give the bytes of records that fit a UDP payload."""
        return max_payload - HEADER_BYTES - len(relay) - self._tag_bytes

    def records(self, body: bytes, relay: bytes) -> bytes:
        """Give the UDP payload for records."""
        return self._whole(Kind.RECORDS, self._take(), body, relay)

    def probe(self, uid: int, size: int) -> tuple[int, bytes]:
        """Give sequence and UDP payload of a probe whose IP packet has `size` bytes, or the least possible."""
        sequence = self._take()
        body = wire.encode_probe(uid, size - IP_UDP_BYTES - HEADER_BYTES - self._tag_bytes)
        return sequence, self._whole(Kind.PROBE, sequence, body, b"")

    def ack(self, ack: wire.Ack) -> bytes:
        """Give the UDP payload of an acknowledgement."""
        return self._whole(Kind.ACK, self._take(), wire.encode_ack(ack), b"")

    def segments(self, raw: memoryview, where: Layout, max_payload: int, relay: bytes) -> Iterator[Segments] | None:
        """Give the datagrams of a super-frame, to be sent before the next are asked for; None if it must be cut."""
        overhead = HEADER_BYTES + len(relay) + wire.SEGMENT_FIELDS.size + where.payload + 1 + 2 * self._tag_bytes
        slice_bytes = slice_size(where, max_payload - overhead)
        if slice_bytes <= 0 or where.payload > MAX_BLOB_BYTES:
            return None
        return self._segments(raw, where, slice_bytes, relay)

    def _segments(self, raw: memoryview, where: Layout, slice_bytes: int, relay: bytes) -> Iterator[Segments]:
        for blob, payload in prepared(raw, where, slice_bytes):
            sequence, key = self._take(), None
            if self._schedule is not None:
                key = self._schedule.key(sequence)
                self._schedule.used(sequence, key)
            clear = wire.clear_header(self._us, Kind.SEGMENT, sequence, encrypted=key is not None, relay=relay)
            yield self._engine.segment(blob, payload, clear, sequence, slice_bytes, key)

    def _whole(self, kind: Kind, sequence: int, body: bytes, relay: bytes) -> bytes:
        schedule = self._schedule
        clear = wire.clear_header(self._us, kind, sequence, encrypted=schedule is not None, relay=relay)
        if schedule is None:
            return clear + body
        key = schedule.key(sequence)
        schedule.used(sequence, key)
        return clear + key.seal(_NONCE_KINDS[kind], 0, sequence, body, clear)

    def _take(self) -> int:
        sequence = self._next
        if sequence >= wire.SEQUENCE_LIMIT:
            raise SequencesSpent
        self._next = sequence + 1
        return sequence


@dataclass(slots=True)
class Rejected:
    """Datagrams dropped, by what is wrong with them."""

    malformed: int = 0
    forged: int = 0
    replayed: int = 0


class Frames(NamedTuple):
    """Frames of one source for one destination: each in pieces, the first of which has all headers. Read at once."""

    relay: bytes
    """Source and destination names; empty if they are the neighbour and we."""
    frames: list[list[Buffer]]


class Probe(NamedTuple):
    """A probe to be acknowledged."""

    uid: int
    sequence: int
    size: int
    """Of its IP packet."""


Opened = Frames | Probe | wire.Ack


class Opener:
    """The receiving end. `data_datagrams` counts records and segments that were good.

    `schedule` (None on a plain connection), `window` and the `flags` of a clear header are for who opens in its place.
    """

    def __init__(self, name: bytes, engine: Engine, schedule: KeySchedule | None) -> None:
        """`name`: of the neighbour."""
        self.rejected = Rejected()
        self._name = name
        self.data_datagrams = 0
        self._engine = engine
        self.schedule = schedule
        self.window = ReplayWindow()
        self.flags = 0 if schedule is None else wire.ENCRYPTED

    def open(self, data: bytearray, size: int, step: int) -> Iterator[Opened]:
        """Give what is in datagrams of `step` bytes (the last may be shorter) that lie one behind the other."""
        at = 0
        while at < size:
            end = min(at + step, size)
            if end - at < HEADER_BYTES:
                self.rejected.malformed += 1
                at = end
                continue
            name, version_and_kind, flags, sequence = _HEADER.unpack_from(data, at)
            kind = wire.KINDS.get(version_and_kind)
            body_at = at + HEADER_BYTES + (RELAY_BYTES if flags & wire.RELAYED else 0)
            if kind is None or name != self._name or flags & ~wire.RELAYED != self.flags or body_at > end:
                self.rejected.malformed += 1
                at = end
            elif kind is Kind.SEGMENT:
                run = self._open_run(data, at, size, step, body_at - at, sequence)
                at, relay = run.next_at, bytes(data[at + HEADER_BYTES : body_at])
                if run.frames:
                    yield Frames(relay, run.frames)
            else:
                opened = self._open_whole(kind, data[at:end], body_at - at, sequence)
                at = end
                if opened is not None:
                    yield opened

    def _open_run(self, data: bytearray, at: int, size: int, step: int, clear_bytes: int, sequence: int) -> Run:
        key, seen = None, 0
        if self.schedule is not None:
            key, seen = self.schedule.key(sequence), self.window.seen(sequence)
        run = self._engine.open_run(data, at, size, step, clear_bytes, seen, key)
        rejected = self.rejected
        rejected.malformed += run.malformed
        rejected.forged += run.forged
        rejected.replayed += run.replayed
        if run.mask:
            self.data_datagrams += run.mask.bit_count()
            if self.schedule is not None and key is not None:
                self.schedule.used(sequence, key)
                self.window.add(sequence, run.mask)
        return run

    def _open_whole(self, kind: Kind, datagram: bytearray, clear_bytes: int, sequence: int) -> Opened | None:
        body: bytes | None = bytes(datagram[clear_bytes:])
        schedule = self.schedule
        if schedule is not None:
            if self.window.seen(sequence) & 1:
                self.rejected.replayed += 1
                return None
            key: Key = schedule.key(sequence)
            clear = bytes(datagram[:clear_bytes])
            body = key.open(_NONCE_KINDS[kind], 0, sequence, datagram[clear_bytes:], clear)
            if body is None:
                self.rejected.forged += 1
                return None
            schedule.used(sequence, key)
            self.window.add(sequence, 1)
        assert body is not None
        if kind is Kind.RECORDS:
            return self._records(body, bytes(datagram[HEADER_BYTES:clear_bytes]))
        opened: Opened | None
        if kind is Kind.PROBE:
            uid = wire.decode_probe(body)
            opened = None if uid is None else Probe(uid, sequence, len(datagram) + IP_UDP_BYTES)
        else:
            opened = wire.decode_ack(body)
        if opened is None:
            self.rejected.malformed += 1
        return opened

    def _records(self, body: bytes, relay: bytes) -> Frames | None:
        frames: list[list[Buffer]] = []
        at, end = 0, len(body)
        is_good = end > 0
        while at < end:
            start = at + RECORD_LENGTH.size
            if start > end:
                is_good = False
                break
            at = start + (body[at] << 8 | body[at + 1])
            raw = body[start:at]
            if at > end or len(raw) < MIN_RAW_BYTES or not _is_sound_quickly(raw):
                is_good = False
                break
            frames.append([raw])
        if is_good:
            self.data_datagrams += 1
        else:
            self.rejected.malformed += 1
        return Frames(relay, frames) if frames else None


_ZERO_VNET = bytes(wire.VNET_BYTES)


def _is_sound_quickly(raw: bytes) -> bool:
    return raw.startswith(_ZERO_VNET) or is_sound(raw)


def relay_names(relay: bytes) -> tuple[bytes, bytes]:
    """Give source and destination of a relayed datagram."""
    return relay[:NAME_BYTES], relay[NAME_BYTES:]
