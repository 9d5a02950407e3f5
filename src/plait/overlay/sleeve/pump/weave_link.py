"""A neighbour reached in Weave's format: single frames with finished checksums, two counters of sequences."""

from collections.abc import Iterator
from itertools import groupby

from plait.mesh.name import NAME_BYTES
from plait.overlay.ethernet import HEADER_BYTES, SPECIAL_PREFIX
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.crypto import Opener, Rejection, Sealer
from plait.overlay.sleeve.cutting import Cutter
from plait.overlay.sleeve.datagram import decode_records, encode_plain, encode_records, special_frame
from plait.overlay.sleeve.fragment import fragment_ipv4
from plait.overlay.sleeve.plait1.engine import Buffer
from plait.overlay.sleeve.plait1.superframe import Layout
from plait.overlay.sleeve.plait1.wire import VNET_BYTES
from plait.overlay.sleeve.pump.link import Injection, Link, Outgoing, Payloads, Received, Socket, Special, Verdict
from plait.overlay.sleeve.pump.pacing import Pacer
from plait.overlay.sleeve.sender import Batcher, Path, Way, choose_way

_REJECTION_COUNTERS = {
    Rejection.TOO_SHORT: "malformed",
    Rejection.FORGED: "forged",
    Rejection.REPLAYED: "replayed",
}
_VERDICTS = {
    Way.TOO_BIG: Verdict.TOO_BIG,
    Way.DROP_NO_ADDRESS: Verdict.NO_ADDRESS,
    Way.DROP_BROADCAST_TOO_BIG: Verdict.BROADCAST_TOO_BIG,
}


class WeaveLink(Link):
    """Frames travel as records of Weave's sleeve."""

    def __init__(self, us: bytes, wanted: ipc.SetConnection, cutter: Cutter) -> None:
        """`cutter` finishes checksums and cuts super-frames."""
        super().__init__(us, wanted)
        key, outbound = wanted.key, wanted.outbound
        self._cutter = cutter
        self.opener = None if key is None else Opener(key, is_outbound=outbound)
        self.sealer = (
            None if key is None else Sealer(us, key, is_outbound=outbound, first_sequence=wanted.first_sequence)
        )
        self._rejected: dict[str, int] = {}
        self.pacer = Pacer() if wanted.is_paced else None
        self._df = Batcher(us, self.sealer, df=True, max_payload=self.path.max_payload)
        self._plain = Batcher(us, self.sealer, df=False, max_payload=self.path.max_payload)

    def set_path(self, path: Path) -> None:
        """See Link."""
        super().set_path(path)
        self._df.max_payload = self._plain.max_payload = path.max_payload

    def add(self, raw: bytes, src: bytes, dst: bytes, is_broadcast: bool) -> Verdict:
        """See Link."""
        return self._add_frame(self._cutter.finish_checksum(raw), src, dst, is_broadcast)

    def add_super(
        self, raw: memoryview, where: Layout, src: bytes, dst: bytes, now: float
    ) -> Iterator[Outgoing] | Verdict:
        """See Link."""
        headers = where.payload - VNET_BYTES - HEADER_BYTES
        room = self.path.mtu - headers
        if self.path.remote is None:
            return Verdict.NO_ADDRESS
        frames = self._cutter.cut(raw, where, room if where.is_tcp and room > 0 else None)
        if not frames:
            return Verdict.UNFIT
        for frame in frames:
            verdict = self._add_frame(frame, src, dst, False)
            if verdict is not Verdict.TAKEN:
                return verdict
        return self.flush(now)

    def flush(self, now: float) -> Iterator[Outgoing]:
        """See Link."""
        pacer = self.pacer
        for socket, batcher in ((Socket.DF, self._df), (Socket.PLAIN, self._plain)):
            payloads = batcher.flush()
            if payloads and pacer is None:
                yield Payloads(self, socket, payloads)
            elif payloads and pacer is not None:
                pacer.put(socket, payloads)
        if pacer is not None:
            for socket, paced in groupby(pacer.take(now), key=lambda each: each.socket):
                yield Payloads(self, socket, [each.payload for each in paced])

    @property
    def is_held_back(self) -> bool:
        """See Link."""
        return self.pacer is not None and self.pacer.is_waiting

    def receive(self, data: bytearray, size: int, step: int, source: ipc.Endpoint, now: float) -> Iterator[Received]:
        """See Link."""
        counters = self.counters
        waiting: list[bytes] = []
        ends: tuple[bytes, bytes] = (b"", b"")
        for at in range(0, size, step):
            payload = bytes(data[at : min(at + step, size)])
            records, begin = payload, NAME_BYTES
            if not payload.startswith(self.name):  # the kernel merged it with one of the neighbour's
                self._reject("malformed")
                continue
            if self.opener is not None:
                opened = self.opener.open(payload)
                if isinstance(opened, Rejection):
                    self._reject(_REJECTION_COUNTERS[opened])
                    continue
                records, begin = opened, 0
            frames, error = decode_records(records, begin)
            if error is not None:
                self._reject("malformed")
            counters["rx_datagrams"] += 1
            counters["rx_bytes"] += len(payload)
            counters["rx_frames"] += len(frames)
            for src, dst, frame in frames:
                if (src, dst) != ends and waiting:
                    yield self._injection(ends, waiting)
                    waiting = []
                ends = (src, dst)
                if frame.startswith(SPECIAL_PREFIX) and src == self.name and dst == self.us:
                    yield Special(frame)
                else:
                    waiting.append(frame)
        if waiting:
            yield self._injection(ends, waiting)

    def reject_counts(self) -> dict[str, int]:
        """See Link."""
        rejected, self._rejected = self._rejected, {}
        return rejected

    def take_dropped(self) -> int:
        """See Link."""
        if self.pacer is None:
            return 0
        dropped, self.pacer.dropped = self.pacer.dropped, 0
        return dropped

    def special(self, length: int, uid: int | None, df: bool) -> Payloads:
        """Give a special frame. Raises ValueError for a length no frame can have."""
        records = [(self.us, self.name, special_frame(length, uid))]
        if self.sealer is None:
            payload = encode_plain(self.us, records)
        else:
            payload = self.sealer.seal(encode_records(records), df)
        return Payloads(self, Socket.DF if df else Socket.PLAIN, [payload])

    def _injection(self, ends: tuple[bytes, bytes], frames: list[bytes]) -> Injection:
        whole: list[list[Buffer]] = [[raw] for raw in self._cutter.coalesce(frames)]
        return Injection(*ends, whole)

    def _reject(self, reason: str) -> None:
        self._rejected[reason] = self._rejected.get(reason, 0) + 1

    def _add_frame(self, frame: bytes, src: bytes, dst: bytes, is_broadcast: bool) -> Verdict:
        way = choose_way(frame, self.path, is_broadcast)
        if way is Way.DF_SOCKET:
            fits = self._df.add(src, dst, frame)
        elif way is Way.PLAIN_SOCKET:
            fits = self._plain.add(src, dst, frame)
        elif way is Way.INNER_FRAGMENTS:
            return self._add_fragments(frame, src, dst)
        else:
            return _VERDICTS[way]
        if not fits:
            return Verdict.UNFIT
        self.counters["tx_frames"] += 1
        return Verdict.TAKEN

    def _add_fragments(self, frame: bytes, src: bytes, dst: bytes) -> Verdict:
        pieces = fragment_ipv4(frame, self.path.mtu)
        if not pieces or not all(self._df.add(src, dst, piece) for piece in pieces):
            return Verdict.UNFIT
        self.fragmented += 1
        self.counters["tx_frames"] += len(pieces)
        return Verdict.TAKEN
