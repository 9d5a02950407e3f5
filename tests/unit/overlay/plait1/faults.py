"""A stream of genuine and damaged datagrams against a pump core, each with what must become of it. Seeded.

A sends to B, which passes some of it on to C. A second B that gets every datagram once says what each one brings.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from plait.overlay.macs import MAX_REMOTE
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.datagram import HEARTBEAT_LENGTH
from plait.overlay.sleeve.plait1.keys import Cipher
from plait.overlay.sleeve.plait1.replay import WINDOW
from plait.overlay.sleeve.plait1.superframe import is_sound
from plait.overlay.sleeve.pump.core import ToBridge
from plait.overlay.sleeve.pump.link import SPECIALS_PER_SECOND, SuperFrame
from plait.overlay.sleeve.pump.plait1_link import MAX_OUTSTANDING, Plait1Link
from plait.overlay.switch import PLAIT1, SLEEVE
from unit.overlay.cutters import cutters
from unit.overlay.plait1 import frames as f
from unit.overlay.plait1.hosts import ADDRESSES, UID, A, B, C, Row

REJECTIONS = ("malformed", "forged", "replayed", "unknown_hop")
CHUNK = 5000
"""Datagrams of one seed: new connections for each, so that any failure is found again quickly."""

_SECONDS_EACH = 0.0001
_BATCH = 40
_TCP4_HEAD = f.VNET_BYTES + 14 + 20 + 32


class Format(NamedTuple):
    """What the link between A and B speaks."""

    overlay: str
    cipher: Cipher | None
    cutter: str = "python"

    @property
    def name(self) -> str:
        if self.overlay == PLAIT1:
            return "plain" if self.cipher is None else self.cipher.name
        return ("weave plain" if self.cipher is None else "weave encrypted") + f" {self.cutter}"


FORMATS = (
    Format(PLAIT1, None),
    Format(PLAIT1, Cipher.AES_256_GCM),
    Format(PLAIT1, Cipher.CHACHA20_POLY1305),
    *(Format(SLEEVE, None, each.name) for each in cutters()),
    Format(SLEEVE, Cipher.AES_256_GCM),
)


class Broken(Exception):
    """A seed and what went wrong with it."""


@dataclass(frozen=True, slots=True)
class Genuine:
    """A datagram that A sent, and what the bridge of B gets of it; `relayed`: frames for C."""

    payload: bytes
    injected: list[bytes]
    relayed: int
    is_ack: bool = False


class Effect(NamedTuple):
    """What a call brought about."""

    injected: list[bytes]
    relayed: int
    rejected: tuple[int, ...]
    answers: int


def run_chunk(format: Format, seed: int, datagrams: int = CHUNK) -> Counter[str]:
    """Give what was done, by kind, and what was counted. Raises Broken with the seed in the text."""
    stream = Stream(format, seed)
    try:
        while stream.number < datagrams:
            stream.step()
        stream.finish()
    except Exception as error:
        raise Broken(
            f"{format.name}, seed {seed}, datagram {stream.number}, {stream.kind}, {stream.payload.hex()}: "
            f"{type(error).__name__}: {error}"
        ) from error
    return stream.done


def _new_row(format: Format) -> Row:
    cutter = next(each for each in cutters() if each.name == format.cutter)
    net = Row(format.cipher, ab=format.overlay, cutter=cutter)
    net.meet()
    return net


class Stream:
    """One victim, B, and everything that comes to it from A's address."""

    def __init__(self, format: Format, seed: int) -> None:
        self.kind = "meeting"
        self.payload = b""
        self.number = 0
        self.done: Counter[str] = Counter()
        self._format = format
        self._is_sealed = format.cipher is not None
        self._rng = random.Random(f"{format.name} {seed}")
        self._now = 1.0
        self._net, self._twin = _new_row(format), _new_row(format).b
        self._core = self._net.b.core
        self._pending: list[Genuine] = []
        self._old: list[Genuine] = []
        self._serial = 0
        self._messages = 0
        kinds = _KINDS if self._is_sealed else {**_KINDS, **_OF_PLAIN}
        self._names, self._actions = list(kinds), list(kinds.values())
        self._weights = [_WEIGHTS.get(name, 10) for name in kinds]

    def step(self) -> None:
        """Send one datagram, or a burst."""
        if len(self._pending) < 8:
            self._refill()
        (index,) = self._rng.choices(range(len(self._names)), self._weights)
        self.kind = self._names[index]
        self.done[self.kind] += 1
        self._actions[index](self)
        if self.number % 500 < 10:
            self._look_at_memory()

    def finish(self) -> None:
        """What was held back arrives last, and still counts."""
        self.kind = "held back"
        while self._pending:
            self.fresh()
        self._look_at_memory()
        elapsed = self._now - 1.0
        assert self._messages <= 2 * SPECIALS_PER_SECOND * (elapsed + 1.0) + 1000
        counters = self._core.counters
        self.done.update({f"counted {name}": counters[name] for name in REJECTIONS})

    # Kinds: the datagram, and what must become of it

    def fresh(self) -> None:
        each = self._take()
        effect = self._feed([each.payload])
        # Its probe may be forgotten, because it is long ago or, on a plain link, a forged answer came first.
        assert effect.rejected == (0, 0, 0, 0) or (each.is_ack and effect.rejected == (1, 0, 0, 0)), effect.rejected
        assert effect.injected == each.injected
        # On a plain link a forged frame may have claimed a container's address, so that others are asked for it.
        assert effect.relayed == each.relayed or (effect.relayed > each.relayed and not self._is_sealed)
        self._old.append(each)

    def replay(self) -> None:
        if not self._old:
            return self.fresh()
        each = self._rng.choice(self._old)
        effect = self._feed([each.payload])
        if self._is_sealed:
            self._expect_nothing(effect, (0, 0, 1, 0))
        else:
            assert effect.injected == each.injected
        return None

    def flip(self) -> None:
        data = bytearray(self._some().payload)
        for _ in range(self._rng.choice((1, 1, 1, 2, 5))):
            data[self._rng.randrange(6, len(data))] ^= self._rng.randrange(1, 256)
        self._damaged(bytes(data))

    def header(self) -> None:
        """The clear header alone, which is where an attacker can do most."""
        data = bytearray(self._some().payload)
        rng = self._rng
        what = rng.randrange(4)
        if what == 0:
            data[6] = rng.randrange(256)
        elif what == 1 and len(data) > 7:
            data[7] = rng.choice((0, 1, 2, 3, rng.randrange(256)))
        elif what == 2:
            sequence = rng.choice((0, 2**64 - 1, 1 << 20, 1 << 48, rng.randrange(1 << 64), rng.randrange(5000)))
            data[8:16] = sequence.to_bytes(8, "big")
        else:
            data[16:16] = rng.randbytes(12)
            data[7] ^= 2
        self._damaged(bytes(data))

    def fields(self) -> None:
        """Slice, lengths, blob and index of a segment, or lengths of records, set to something extreme."""
        data = bytearray(self._some().payload)
        at = self._rng.randrange(16, min(len(data), 130))
        value = self._rng.choice((b"\x00", b"\xff", b"\x80", b"\x00\x00", b"\xff\xff", b"\x7f\xff", b"\x00\x01"))
        data[at : at + len(value)] = value
        self._damaged(bytes(data))

    def cut(self) -> None:
        payload = self._some().payload
        self._damaged(payload[: self._rng.randrange(1, len(payload))])

    def grow(self) -> None:
        payload = self._some().payload
        self._damaged(payload + self._rng.randbytes(self._rng.choice((1, 2, 16, 100))))

    def splice(self) -> None:
        one, other = self._some().payload, self._some().payload
        at = self._rng.randrange(6, len(one))
        self._damaged(one[:at] + other[min(at, len(other) - 1) :])

    def garbage(self) -> None:
        size = self._rng.randrange(0, 300)
        self._damaged(
            A.to_bytes6()
            + self._rng.choice((b"", b"\x11", b"\x12\x01", b"\x13\x01", b"\x14"))
            + self._rng.randbytes(size)
        )

    def stranger(self) -> None:
        effect = self._feed([b"\xfe" + self._rng.randbytes(self._rng.randrange(0, 200))])
        self._expect_nothing(effect, (0, 0, 0, 1))

    def short(self) -> None:
        effect = self._feed([A.to_bytes6()[: self._rng.randrange(0, 6)]])
        self._expect_nothing(effect, (0, 0, 0, 1))

    def other_name(self) -> None:
        """A's datagram under C's name."""
        payload = C.to_bytes6() + self._some().payload[6:]
        effect = self._feed([payload])
        if self._is_sealed:
            assert sum(effect.rejected) == 1
            self._expect_nothing(effect, effect.rejected)

    def burst(self) -> None:
        """Datagrams of one length that the kernel merged, some of them damaged or known."""
        first = self._take()
        alike = [each for each in self._pending if len(each.payload) == len(first.payload)][:12]
        members, bad, good = [], 0, []
        for each in (first, *alike):
            payload = each.payload
            if self._is_sealed and self._rng.random() < 0.3:
                damaged = bytearray(payload)
                damaged[self._rng.randrange(16, len(damaged))] ^= self._rng.randrange(1, 256)
                members.append(bytes(damaged))
                bad += 1
            else:
                members.append(payload)
                good.append(each)
        for each in alike:
            if each in good:
                self._pending.remove(each)
        if first not in good:
            self._pending.append(first)
        self._old += good
        effect = self._feed(members)
        forgotten = sum(each.is_ack for each in good)
        assert bad <= sum(effect.rejected) <= bad + forgotten, effect.rejected
        got = b"".join(raw[_TCP4_HEAD:] for raw in effect.injected)
        assert got == b"".join(raw[_TCP4_HEAD:] for each in good for raw in each.injected)

    def misread(self) -> None:
        """The same with a wrong idea of where each begins."""
        payload = self._some().payload
        alike = [each.payload for each in self._old[-50:] if len(each.payload) == len(payload)][:5]
        members = [payload, *alike]
        step = self._rng.randrange(1, 2 * len(payload))
        if len(payload) % step == 0 or (len(members) == 1 and step > len(payload)):
            return
        effect = self._feed(members, step)
        if self._is_sealed:
            assert sum(effect.rejected) > 0
            self._expect_nothing(effect, effect.rejected)

    def probe(self) -> None:
        """B asks, so that it has something to be lied to about; a genuine answer may be among what A sends."""
        self._core.apply(ipc.SendProbe(A, self._rng.choice((0, 1200, 1500))), self._now)
        for work in self._core.drain(self._now):
            if not isinstance(work, ToBridge | SuperFrame) and work.link.peer == A:
                self._net.a.received(work.payloads[0], ADDRESSES[B], self._now)
        for sent in self._net.a.drain(self._now):
            for payload in sent.payloads:
                self._pending.append(Genuine(payload, [], 0, is_ack=True))

    def false_ack(self) -> None:
        """On a plain link anybody can say anything: without the connection's UID it is not heard."""
        body = self._rng.randbytes(26)
        effect = self._feed([A.to_bytes6() + b"\x14\x00" + self._rng.randbytes(8) + body])
        assert not effect.injected
        if self._format.overlay == PLAIT1:
            assert effect.rejected == (1, 0, 0, 0)

    def flood_of_macs(self) -> None:
        """A plain neighbour's frames with ever new sources fill no memory."""
        raws = []
        for _ in range(20):
            source = b"\x06" + self._rng.randbytes(5)
            frame = f.MAC_B + source + b"\x88\xb5" + bytes(20)
            if self._format.overlay == PLAIT1:
                raws.append((10 + len(frame)).to_bytes(2, "big") + bytes(10) + frame)
            else:
                raws.append(A.to_bytes6() + B.to_bytes6() + len(frame).to_bytes(2, "big") + frame)
        head = A.to_bytes6() + (b"\x11\x00" + bytes(8) if self._format.overlay == PLAIT1 else b"")
        effect = self._feed([head + b"".join(raws)])
        assert effect.rejected == (0, 0, 0, 0)
        assert len(effect.injected) == 20

    # Helpers

    def _take(self) -> Genuine:
        """Out of order."""
        pending = self._pending
        return pending.pop(self._rng.randrange(max(len(pending) - 60, 0), len(pending)))

    def _some(self) -> Genuine:
        return self._rng.choice(self._pending if self._rng.random() < 0.6 or not self._old else self._old)

    def _damaged(self, payload: bytes) -> None:
        """What is not as it was sent is delivered by no encrypted link, and counted once."""
        effect = self._feed([payload])
        if self._is_sealed:
            if sum(effect.rejected) != 1:
                assert self._is_genuine(payload), effect
                return
            self._expect_nothing(effect, effect.rejected)
        else:
            assert sum(effect.rejected) <= 1
            assert all(is_sound(raw) for raw in effect.injected)

    def _is_genuine(self, payload: bytes) -> bool:
        """Damage may undo itself."""
        for each in self._pending:
            if each.payload == payload:
                self._pending.remove(each)
                self._old.append(each)
                return True
        return False

    def _expect_nothing(self, effect: Effect, rejected: tuple[int, ...]) -> None:
        assert effect.rejected == rejected, effect.rejected
        assert not effect.injected, effect.injected
        assert effect.relayed == 0
        assert effect.answers == 0

    def _feed(self, payloads: list[bytes], step: int = 0) -> Effect:
        core = self._core
        self.payload = data = b"".join(payloads)
        self.number += len(payloads)
        self._now += _SECONDS_EACH * len(payloads)
        counters, to_c = core.counters, self._net.b.core.link(C)
        assert to_c is not None
        before = [counters[name] for name in REJECTIONS]
        relayed = to_c.counters["tx_frames"]
        injected: list[bytes] = []
        answers = 0
        buffer = bytearray(data) + b"\xaa" * 50
        for work in core.received(buffer, len(data), step or len(payloads[0]) or 1, ADDRESSES[A], self._now):
            if isinstance(work, ToBridge):
                injected += [b"".join(pieces) for pieces in work.frames]
            elif isinstance(work, SuperFrame):
                assert sum(map(len, work.segments.buffers)) == work.segments.total
            elif work.link.peer == A:
                answers += 1
        rejected = tuple(counters[name] - was for name, was in zip(REJECTIONS, before, strict=True))
        return Effect(injected, to_c.counters["tx_frames"] - relayed, rejected, answers)

    def _refill(self) -> None:
        """A's containers say something: small frames, super-frames, for B and beyond; and A probes."""
        a, rng = self._net.a, self._rng
        for _ in range(_BATCH):
            destination = rng.choice((f.MAC_B, f.MAC_B, f.MAC_C))
            body = self._serial.to_bytes(8, "big") * rng.choice((2, 20))
            self._serial += 1
            what = rng.randrange(6)
            if what < 2:
                a.captured_raw(f.unfinished("tcp4", body, destination=destination))
            elif what == 2:
                a.captured_raw(f.finished("tcp4", body, destination=destination))
            elif what == 3 and self._format.overlay == PLAIT1:
                a.apply(ipc.SendProbe(B, rng.choice((0, 600))), now=self._now)
            elif what == 3:
                a.apply(ipc.SendSpecial(B, HEARTBEAT_LENGTH, UID, df=True), now=self._now)
            else:
                a.captured_raw(f.super_frame("tcp4", body * 12, 700, destination=destination))
            for sent in a.drain(self._now):
                self._pending += [self._judged(payload) for payload in sent.payloads if sent.peer == B]

    def _judged(self, payload: bytes) -> Genuine:
        """Let the twin say what it brings."""
        twin = self._twin
        to_c = twin.core.link(C)
        assert to_c is not None
        before = to_c.counters["tx_frames"]
        twin.received(payload, ADDRESSES[A], self._now)
        relayed = to_c.counters["tx_frames"] - before
        injected = twin.take_raw(self._now)
        twin.sent.clear()
        twin.core.messages.clear()
        return Genuine(payload, injected, relayed)

    def _look_at_memory(self) -> None:
        core = self._core
        for _ in core.drain(self._now):
            pass
        self._messages += len(core.take_messages())
        assert len(core._macs) <= MAX_REMOTE + 100
        assert not core._ready
        assert not core._injections
        assert len(core._links) == 2
        link = core.link(A)
        if isinstance(link, Plait1Link):
            assert len(link._outstanding) <= MAX_OUTSTANDING
            assert len(link.opener.window._seen) <= 3 * WINDOW
            assert not link._parts
            assert not link._payloads
            assert not link._large


_KINDS: dict[str, Callable[[Stream], None]] = {
    "genuine": Stream.fresh,
    "replayed": Stream.replay,
    "flipped": Stream.flip,
    "header": Stream.header,
    "fields": Stream.fields,
    "truncated": Stream.cut,
    "extended": Stream.grow,
    "spliced": Stream.splice,
    "garbage": Stream.garbage,
    "stranger": Stream.stranger,
    "short": Stream.short,
    "other name": Stream.other_name,
    "burst": Stream.burst,
    "misread burst": Stream.misread,
    "probe": Stream.probe,
}
_OF_PLAIN: dict[str, Callable[[Stream], None]] = {"false ack": Stream.false_ack, "macs": Stream.flood_of_macs}
_WEIGHTS = {"genuine": 12, "burst": 3, "probe": 1, "stranger": 4, "short": 2, "macs": 1, "misread burst": 5}
