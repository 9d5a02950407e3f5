"""A neighbour reached in plait's own format: super-frames in segments, the rest as records, probes."""

from collections.abc import Iterator

from plait.overlay.ethernet import HEADER_BYTES
from plait.overlay.outer import IPV6_EXTRA_BYTES, is_ipv6
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.cutting import Cutter
from plait.overlay.sleeve.fragment import fragment_ipv4
from plait.overlay.sleeve.plait1 import wire
from plait.overlay.sleeve.plait1.codec import Frames, Opener, Probe, Sealer, relay_names
from plait.overlay.sleeve.plait1.engine import Engine
from plait.overlay.sleeve.plait1.keys import Cipher, KeySchedule
from plait.overlay.sleeve.plait1.superframe import PLAIN_VNET, Layout, as_super_frame, layout
from plait.overlay.sleeve.plait1.wire import RECORD_LENGTH, RELAY_BYTES, VNET_BYTES
from plait.overlay.sleeve.pump.link import (
    Acknowledged,
    Injection,
    Link,
    Outgoing,
    Payloads,
    ProbeSeen,
    Received,
    Socket,
    SuperFrame,
    Verdict,
)
from plait.overlay.sleeve.sender import Path, Way, choose_way

MAX_OUTSTANDING = 256
"""Probes without an answer that are remembered: a search has some 20 at a time."""

MAX_RECORDS_BYTES = 65507
_LENGTH_BYTES = RECORD_LENGTH.size
_VERDICTS = {
    Way.TOO_BIG: Verdict.TOO_BIG,
    Way.DROP_NO_ADDRESS: Verdict.NO_ADDRESS,
    Way.DROP_BROADCAST_TOO_BIG: Verdict.BROADCAST_TOO_BIG,
}


class Plait1Link(Link):
    """Frames travel as docs/protocol/sleeve2.md says."""

    def __init__(self, us: bytes, wanted: ipc.SetConnection, engine: Engine, cutter: Cutter) -> None:
        """`engine` cuts and joins super-frames; `cutter` makes single frames of those that cannot travel whole."""
        super().__init__(us, wanted)
        self._wanted = wanted
        self._cutter = cutter
        self._relay_path = self.path
        self.sealer = Sealer(us, engine, self._schedule(wanted.outbound, 0), wanted.first_sequence)
        self.opener = Opener(self.name, engine, self._schedule(not wanted.outbound, wanted.generation))
        self._extra = IPV6_EXTRA_BYTES if is_ipv6(wanted.local_ip) else 0
        """Of an IP packet to the neighbour beyond what datagrams say (wire.IP_UDP_BYTES)."""
        self._outstanding: dict[int, tuple[int, float, int]] = {}
        self._payloads: list[bytes] = []
        self._large: list[bytes] = []
        self._parts: list[bytes] = []
        self._relay = b""
        self._room = 0

    def set_path(self, path: Path) -> None:
        """See Link."""
        if path.remote != self.path.remote:
            self._outstanding.clear()  # what another path carries says nothing about this one
        super().set_path(path)
        self._relay_path = Path(path.remote, path.mtu - RELAY_BYTES, path.max_payload, False)
        self._close()

    def mtu(self, src: bytes, dst: bytes) -> int:
        """See Link."""
        return self.path.mtu if src == self.us and dst == self.name else self._relay_path.mtu

    def set_generation(self, generation: int) -> None:
        """Seal with keys of this generation, as the neighbour asked for."""
        schedule = self._schedule(self._wanted.outbound, generation)
        if schedule is not None:
            self._close()
            self.sealer.set_schedule(schedule)

    def add(self, raw: bytes, src: bytes, dst: bytes, is_broadcast: bool) -> Verdict:
        """See Link."""
        relay = b"" if src == self.us and dst == self.name else src + dst
        size = len(raw) + _LENGTH_BYTES
        if size > self._room or relay != self._relay:
            if self.path.remote is None:
                return Verdict.NO_ADDRESS
            room = self.sealer.room_for_records(self.path.max_payload, relay)
            if size > room:
                return self._add_large(raw, relay, is_broadcast)
            self._close()
            self._relay, self._room = relay, room
        self._room -= size
        self._parts += (len(raw).to_bytes(_LENGTH_BYTES, "big"), raw)
        self.counters["tx_frames"] += 1
        return Verdict.TAKEN

    def add_super(
        self, raw: memoryview, where: Layout, src: bytes, dst: bytes, now: float
    ) -> Iterator[Outgoing] | Verdict:
        """See Link."""
        if self.path.remote is None:
            return Verdict.NO_ADDRESS
        relay = b"" if src == self.us and dst == self.name else src + dst
        segments = self.sealer.segments(raw, where, self.path.max_payload, relay)
        if segments is not None:
            self.counters["tx_frames"] += 1
            return (SuperFrame(self, each) for each in segments)
        for frame in self._cutter.cut(raw, where, None):
            verdict = self.add(PLAIN_VNET + frame, src, dst, False)
            if verdict is not Verdict.TAKEN:
                return verdict
        return self.flush(now)

    def flush(self, now: float) -> Iterator[Outgoing]:
        """See Link."""
        self._close()
        if self._payloads:
            payloads, self._payloads = self._payloads, []
            yield Payloads(self, Socket.PEER, payloads)
        if self._large:
            large, self._large = self._large, []
            yield Payloads(self, Socket.PLAIN, large)

    def receive(self, data: bytearray, size: int, step: int, source: ipc.Endpoint, now: float) -> Iterator[Received]:
        """See Link."""
        counters, opener = self.counters, self.opener
        before = opener.data_datagrams
        for opened in opener.open(data, size, step):
            if isinstance(opened, Frames):
                counters["rx_frames"] += len(opened.frames)
                ends = relay_names(opened.relay) if opened.relay else (self.name, self.us)
                yield Injection(*ends, opened.frames)
            elif isinstance(opened, Probe):
                yield from self._answer(opened, source)
            else:
                yield from self._acknowledged(opened, now)
        counters["rx_datagrams"] += opener.data_datagrams - before
        counters["rx_bytes"] += size

    def probe(self, size: int, now: float) -> Payloads:
        """Give a probe whose IP packet has `size` bytes, or the least a probe can have."""
        sequence, payload = self.sealer.probe(self._wanted.uid, size - self._extra)
        if len(self._outstanding) >= MAX_OUTSTANDING:
            del self._outstanding[next(iter(self._outstanding))]
        self._outstanding[sequence] = (len(payload) + wire.IP_UDP_BYTES, now, self.data_sent)
        return Payloads(self, Socket.PEER, [payload], is_data=False)

    def reject_counts(self) -> dict[str, int]:
        """See Link."""
        rejected = self.opener.rejected
        counts = {"malformed": rejected.malformed, "forged": rejected.forged, "replayed": rejected.replayed}
        rejected.malformed = rejected.forged = rejected.replayed = 0
        return {name: count for name, count in counts.items() if count}

    def _schedule(self, from_dialler: bool, generation: int) -> KeySchedule | None:
        key = self._wanted.key
        if key is None:
            return None
        return KeySchedule(key, Cipher(self._wanted.cipher), from_dialler=from_dialler, generation=generation)

    def _close(self) -> None:
        self._room = 0
        if self._parts:
            self._payloads.append(self.sealer.records(b"".join(self._parts), self._relay))
            self._parts = []

    def _add_large(self, raw: bytes, relay: bytes, is_broadcast: bool) -> Verdict:
        """Do what is left for a frame that fits no datagram of the path as it is."""
        as_super = None if is_broadcast else as_super_frame(raw)
        if as_super is not None and self._add_slices(as_super, relay):
            return Verdict.TAKEN
        path = self._relay_path if relay else self.path
        frame = self._cutter.finish_checksum(raw)
        # By the room alone a frame may be two bytes too long and yet within the MTU of full segments.
        way = choose_way(frame, path, is_broadcast)
        if way in _VERDICTS:
            return _VERDICTS[way]
        room = self.sealer.room_for_records(path.max_payload, relay) - _LENGTH_BYTES - VNET_BYTES - HEADER_BYTES
        pieces = fragment_ipv4(frame, min(path.mtu, room))
        if pieces:
            self.fragmented += 1
            src, dst = relay_names(relay) if relay else (self.us, self.name)
            for piece in pieces:
                self.add(PLAIN_VNET + piece, src, dst, is_broadcast)
            return Verdict.TAKEN
        return self._add_fragmentable(PLAIN_VNET + frame, relay)

    def _add_slices(self, raw: bytes, relay: bytes) -> bool:
        where = layout(raw)
        if where is None:
            return False
        segments = self.sealer.segments(memoryview(raw), where, self.path.max_payload, relay)
        if segments is None:
            return False
        self._close()
        for each in segments:
            whole = b"".join(each.buffers)
            self._payloads += [whole[at : at + each.size] for at in range(0, len(whole), each.size)]
        self.counters["tx_frames"] += 1
        return True

    def _add_fragmentable(self, raw: bytes, relay: bytes) -> Verdict:
        """Send what cannot be cut in a datagram that the network may fragment."""
        if self.sealer.room_for_records(MAX_RECORDS_BYTES, relay) < len(raw) + _LENGTH_BYTES:
            return Verdict.UNFIT
        self._large.append(self.sealer.records(RECORD_LENGTH.pack(len(raw)) + raw, relay))
        self.counters["tx_frames"] += 1
        return Verdict.TAKEN

    def _answer(self, probe: Probe, source: ipc.Endpoint) -> Iterator[Received]:
        if probe.uid != self._wanted.uid:
            self.opener.rejected.malformed += 1
            return
        # A probe above 65535 bytes cannot be, the field holds every IP packet.
        ack = wire.Ack(probe.uid, probe.sequence, min(probe.size, 0xFFFF), self.opener.data_datagrams)
        is_here = source == self.path.remote
        payload = self.sealer.ack(ack)
        if is_here:
            yield Payloads(self, Socket.PEER, [payload], is_data=False)
        else:
            yield Payloads(self, Socket.DF, [payload], source, is_data=False)
        yield ProbeSeen()

    def _acknowledged(self, ack: wire.Ack, now: float) -> Iterator[Received]:
        size, sent_at, sent = self._outstanding.get(ack.sequence, (0, 0.0, 0))
        if ack.uid != self._wanted.uid or size == 0 or ack.size != size:
            self.opener.rejected.malformed += 1
            return
        del self._outstanding[ack.sequence]
        counters = self.counters
        yield Acknowledged(
            ipc.ProbeAcknowledged(
                self.peer,
                size + self._extra,
                now - sent_at,
                sent,
                ack.received,
                counters["tx_bytes"],
                counters["rx_bytes"],
            )
        )
