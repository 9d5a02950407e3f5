"""Known flows moved by compiled code: two pumps in front of each other must do what they do with the loop in Python.

Whole pump loops with real UDP sockets on loopback; a pair of unix sockets stands for each tap, so that frames keep
their bounds.
"""

import random
import select
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from struct import pack, unpack
from typing import Any, NamedTuple

import pytest

from plait.host import udp
from plait.mesh.name import PeerName
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.cutting import PythonCutter
from plait.overlay.sleeve.native.engine import CompiledEngine
from plait.overlay.sleeve.native.flows import NativeFlows, NativePump
from plait.overlay.sleeve.plait1.engine import PythonEngine
from plait.overlay.sleeve.plait1.keys import Cipher
from plait.overlay.sleeve.pump import loop, pacing
from plait.overlay.sleeve.pump.loop import Loop, Tools
from plait.overlay.sleeve.pump.packets import split
from plait.overlay.sleeve.pump.tap_port import TapPort
from plait.overlay.switch import PLAIT1, SLEEVE
from unit.overlay.plait1 import frames as f
from unit.overlay.plait1.engines import compiled, sanitized
from unit.overlay.pumps import PumpHost

A, B = PeerName(0x7A0000000001), PeerName(0x7A0000000002)
IPS = {A: "127.0.0.1", B: "127.0.0.2"}
KEY = bytes(range(32))
MAX_PAYLOAD = 1472


class Way(NamedTuple):
    """How the two hosts are connected."""

    overlay: str = PLAIT1
    key: bytes | None = None
    mtu: int = 1428
    is_paced: bool = False
    stack_frag: bool = False


WAYS = {
    "plain": Way(),
    "encrypted": Way(key=KEY),
    "weave": Way(SLEEVE, None, 1438),
    "weave-encrypted": Way(SLEEVE, KEY, 1414),
    "weave-fragments": Way(SLEEVE, KEY, 1414, stack_frag=True),
}
EACH_WAY = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
BOTH_WAYS = {A: ipc.SetRoutes([A, B], {B: B}, {A: [B]}), B: ipc.SetRoutes([A, B], {A: A}, {B: [A]})}
SAME = ("captured", "injected", "forged", "malformed", "replayed", "fragmented", "answered", "unfit", "refused_too_big")


@pytest.fixture(autouse=True)
def _a_tap_of_unix_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TapPort, "accept_super_frames", lambda self: True)
    monkeypatch.setattr(loop, "RUN_SECONDS", 0.0)  # a round serves what is ready, and ends


def tools(kind: str) -> Tools:
    if kind == "python":
        return Tools(PythonEngine(), PythonCutter(joins=True), None, kind)
    engine = compiled()
    if isinstance(engine, str):
        pytest.skip(engine)
    return Tools(engine, PythonCutter(joins=True), native_flows(engine), kind)


@lru_cache
def native_flows(engine: CompiledEngine) -> NativeFlows:
    return NativeFlows(engine)


def other(name: PeerName) -> PeerName:
    return B if name == A else A


class Host:
    """A pump and the other ends of what it holds."""

    def __init__(self, name: PeerName, port: int, kind: str, way: Way, undo: ExitStack) -> None:
        self.tap, inner = map(undo.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self.tap.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        inner.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)
        inner.setblocking(False)
        self.tap.setblocking(False)
        channel, self.node = map(undo.enter_context, socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        self.node.setblocking(False)
        sockets = undo.enter_context(udp.open_sleeve_sockets(IPS[name], port))
        self.loop = Loop(name, port, inner.fileno(), [sockets], channel, tools(kind))
        undo.callback(self.loop._peers.forget, other(name))
        self.port = port
        self.name = name
        self.way = way
        for message in setup(name, way, port):
            self.loop._core.apply(message, 0.0)
        if self.loop._flows is not None:
            self.loop._flows.listen(other(name))

    def work(self) -> None:
        while self.loop._poll.poll(0):
            self.loop._round()

    def put(self, raws: Sequence[bytes]) -> None:
        for raw in raws:
            self.tap.send(raw)

    def taken(self) -> list[bytes]:
        """Frames the pump wrote."""
        found = []
        while select.select([self.tap], [], [], 0)[0]:
            found.append(self.tap.recv(1 << 17))
        return found

    def counters(self) -> dict[str, int]:
        """What must be the same. Of Weave's format, frames are joined anew for each call of the kernel: `injected`."""
        counters = self.loop._stats().counters
        return {name: counters[name] for name in SAME if name != "injected" or self.way.overlay == PLAIT1}


def setup(name: PeerName, way: Way, port: int) -> Iterator[ipc.ToPump]:
    peer = other(name)
    cipher = int(Cipher.AES_256_GCM)
    yield BOTH_WAYS[name]
    options: dict[str, Any] = {"overlay": way.overlay, "uid": 7, "cipher": cipher, "is_paced": way.is_paced}
    yield ipc.SetConnection(peer, IPS[name], way.key, name < peer, 5, **options)
    yield ipc.SetPath(peer, (IPS[peer], port), way.mtu, MAX_PAYLOAD, way.stack_frag)


@contextmanager
def pair(kind: str, way: Way) -> Iterator[tuple[Host, Host]]:
    """Both hosts, with both containers' addresses learned."""
    with ExitStack() as undo:
        port = free_port()
        a, b = Host(A, port, kind, way, undo), Host(B, port, kind, way, undo)
        meet(a, b)
        yield a, b


def meet(a: Host, b: Host) -> None:
    for source, here, there in ((f.MAC_A, a, b), (f.MAC_B, b, a), (f.MAC_C, a, b)):
        here.put([f.plain(0x0806, bytes(46), destination=f.BROADCAST, source=source)])
        here.work()
        there.work()
        assert len(there.taken()) == 1


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((IPS[A], 0))
        return int(sock.getsockname()[1])


def traffic(rng: random.Random) -> list[list[bytes]]:
    """Bursts of a container, each read by the pump in one go."""
    bursts = []
    for _ in range(rng.randrange(3, 12)):
        source = rng.choice((f.MAC_A, f.MAC_A, f.MAC_C))
        destination = rng.choice((f.MAC_B, f.MAC_B, f.MAC_B, f.BROADCAST))
        kind = rng.choice((_bulk, _bulk, _small, _small, _odd))
        bursts.append([raw for _ in range(rng.randrange(1, 4)) for raw in kind(rng, source, destination)])
    return bursts


def _bulk(rng: random.Random, source: bytes, destination: bytes) -> list[bytes]:
    kind, gso_size = rng.choice(f.KINDS), rng.choice((100, 536, 1340, 1380))
    size = min(rng.randrange(gso_size + 1, gso_size * 45 + 2), 60000)
    raw = f.super_frame(kind, rng.randbytes(size), gso_size, source=source, destination=destination)
    return [raw] * rng.choice((1, 1, 3))


def _small(rng: random.Random, source: bytes, destination: bytes) -> list[bytes]:
    size = rng.choice((0, 1, 64, 300, 1300))
    make = rng.choice((f.unfinished, f.finished))
    number = rng.randrange(1 << 16)
    return [
        make(
            rng.choice(("udp4", "udp4", "tcp4", "udp6")) if size else "tcp4", rng.randbytes(size), source=source,
            destination=destination, identification=(number + count) & 0xFFFF,
        )
        for count in range(rng.choice((1, 2, 40, 150)))
    ]  # fmt: skip


def _odd(rng: random.Random, source: bytes, destination: bytes) -> list[bytes]:
    long = rng.choice((1400, 1500, 3000))
    return [
        f.finished("udp4", rng.randbytes(long), source=source, destination=destination, df=rng.random() < 0.5),
        f.plain(0x9000, rng.randbytes(50), source=source, destination=destination),
        f.unfinished("udp4", rng.randbytes(80), source=source, destination=destination, vlans=1),
        b"\x02" + bytes(9) + f.finished("tcp4", b"verified", source=source, destination=destination)[10:],
    ][rng.randrange(4) :]


def packets(raws: Sequence[bytes]) -> list[bytes]:
    """What containers see. Joined packets have counted identifications, which mean nothing without fragments."""
    found = []
    for raw in raws:
        for frame in f.packets(raw):
            is_atomic = frame[12:14] == b"\x08\x00" and not (frame[20] & 0x3F or frame[21])
            found.append(frame[:18] + frame[20:24] + frame[26:] if is_atomic else frame)
    return found


def by_flow(frames: Sequence[bytes]) -> dict[bytes, list[bytes]]:
    """Frames whose order a network keeps: of the same addresses, protocol and wish not to be fragmented."""
    flows: dict[bytes, list[bytes]] = {}
    for frame in frames:
        flows.setdefault(frame[:14] + frame[18:19] + frame[20:38] if frame[12] == 8 else frame[:14], []).append(frame)
    return flows


@EACH_WAY
@pytest.mark.parametrize("seed", range(12))
def test_the_same_frames_come_out(way: Way, seed: int) -> None:
    out: dict[str, list[dict[bytes, list[bytes]]]] = {}
    counted: dict[str, list[dict[str, int]]] = {}
    for kind in ("python", "compiled"):
        rng = random.Random(seed)
        with pair(kind, way) as (a, b):
            out[kind] = []
            for burst in traffic(rng):
                a.put(burst)
                a.work()
                b.work()
                out[kind].append(by_flow(packets(b.taken())))
                a.work()
                out[kind].append(by_flow(packets(a.taken())))
            counted[kind] = [a.counters(), b.counters()]
    assert out["compiled"] == out["python"]
    assert counted["compiled"] == counted["python"]


@EACH_WAY
def test_most_frames_pass_the_core(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    with pair("compiled", way) as (a, b):
        seen: Counter[str] = Counter()
        for host, name in ((a, "captured"), (a, "captured_super"), (b, "received")):
            core = host.loop._core
            monkeypatch.setattr(core, name, _counting(getattr(core, name), seen, name))
        bulk = f.super_frame("tcp4", f.noise(50000), 1340)
        small = [f.unfinished("udp4", bytes(64), identification=number) for number in range(60)]
        for _ in range(20):
            a.put([bulk, *small])
            a.work()
            b.work()
        assert len(packets(b.taken())) == 20 * (38 + 60)
        assert seen["captured_super"] == 1
        assert seen["captured"] + seen["received"] < 10


def _counting(function: Callable[..., object], seen: Counter[str], name: str) -> Callable[..., object]:
    def counted(*arguments: object) -> object:
        seen[name] += 1
        return function(*arguments)

    return counted


@EACH_WAY
@pytest.mark.parametrize("seed", range(20))
def test_damaged_datagrams_meet_the_same_judgement(way: Way, seed: int) -> None:
    results = []
    for kind in ("python", "compiled"):
        rng = random.Random(seed)
        with ExitStack() as undo:
            port = free_port()
            b = Host(B, port, kind, way, undo)
            peer = undo.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            peer.bind((IPS[A], port))
            peer.connect((IPS[B], port))
            b.put([f.plain(0x0806, bytes(46), destination=f.BROADCAST, source=f.MAC_B)])
            b.work()
            received = []
            for payloads in damaged(rng, way, port):
                send_burst(peer, payloads)
                b.work()
                received.append(by_flow(packets(b.taken())))
            counters = b.loop._stats().counters
            results.append((received, b.counters() | {name: counters[name] for name in ("received", "unknown_hop")}))
    python, with_flows = results
    assert with_flows[1] == python[1]
    assert with_flows[0] == python[0]


def damaged(rng: random.Random, way: Way, port: int) -> Iterator[list[bytes]]:
    """Bursts of datagrams that a neighbour sent, some of them changed, lost, late or twice there."""
    a = PumpHost(A)
    a.apply(*setup(A, way, port))
    b = PumpHost(B)
    b.apply(*setup(B, way, port))
    b.captured(f.finished("udp4", b"hello", source=f.MAC_B, destination=f.BROADCAST)[10:])
    for sent in b.drain():
        a.received_burst(sent.payloads)
    kept: list[list[bytes]] = []
    for _ in range(60):
        for raw in rng.choice((_bulk, _small, _small))(rng, f.MAC_A, f.MAC_B)[:70]:
            a.captured_raw(raw)
        for sent in a.drain():
            for _, run in groupby(sent.payloads, len):
                kept.append(list(run))
        yield from _spoiled(rng, kept)
        kept = kept[-3:]


def _spoiled(rng: random.Random, bursts: list[list[bytes]]) -> Iterator[list[bytes]]:
    for burst in bursts:
        match rng.randrange(9):
            case 0:
                yield [each for each in burst if rng.random() < 0.8] or burst
            case 1:
                yield rng.sample(burst, len(burst))
            case 2:
                which = rng.randrange(len(burst))
                changed = bytearray(burst[which])
                changed[rng.randrange(min(len(changed), 120))] ^= 1 << rng.randrange(8)
                yield [*burst[:which], bytes(changed), *burst[which + 1 :]]
            case 3:
                yield [*burst[:-1], burst[-1][: rng.randrange(1, len(burst[-1]))]]
            case 4:
                yield [burst[-1], *burst]
            case 5:
                continue
            case _:
                yield burst


def send_burst(sock: socket.socket, payloads: Sequence[bytes]) -> None:
    for at in range(0, len(payloads), 40):
        run = payloads[at : at + 40]
        control = [(udp.SOL_UDP, udp.UDP_SEGMENT, pack("=H", len(run[0])))] if len(run) > 1 else []
        sock.sendmsg(run, control)


LABELS = b"".join(b"\x88\xa8" + short_id.to_bytes(2, "big") for short_id in (0x123, 0x456))


def labelled(raw: bytes) -> bytes:
    """A frame as the kernel's datapath hands it over: tags say from which host to which it is."""
    flags, gso, length, size, start, offset = unpack("<BBHHHH", raw[:10])
    if flags & 1:
        start += len(LABELS)
        length += len(LABELS) if gso else 0
    return pack("<BBHHHH", flags, gso, length, size, start, offset) + raw[10:22] + LABELS + raw[22:]


@EACH_WAY
@pytest.mark.parametrize("seed", range(3))
def test_labels_of_the_kernel_come_off(way: Way, seed: int) -> None:
    out: dict[str, list[dict[bytes, list[bytes]]]] = {}
    for kind in ("python", "compiled"):
        rng = random.Random(seed)
        with pair(kind, way) as (a, b):
            from_node(a, ipc.SetKernel({0x123: A, 0x456: B}, {}))
            a.work()
            out[kind] = []
            for _ in range(8):
                a.put([labelled(raw) for raw in rng.choice((_bulk, _small, _odd))(rng, f.MAC_A, f.MAC_B)])
                a.work()
                b.work()
                out[kind].append(by_flow(packets(b.taken())))
    assert out["compiled"] == out["python"]
    assert any(out["python"])


def test_a_weave_peer_is_not_flooded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes at once beyond the burst that its socket holds waits for its time; nothing overtakes it."""
    monkeypatch.setattr(pacing, "DATAGRAMS_PER_SECOND", 2000.0)
    with pair("compiled", WAYS["weave"]._replace(is_paced=True)) as (a, b):
        seen: list[bytes] = []
        for number in range(4):
            a.put([f.super_frame("tcp4", f.noise(50000), 1340, sequence=number * 50000)])
            a.work()
            b.work()
            seen += b.taken()
        assert a.loop._core.is_held_back
        while a.loop._core.is_held_back:
            a.loop._round()
            b.work()
            seen += b.taken()
        payload = b"".join(packet[54 + 12 :] for raw in seen for packet in f.packets(raw))
        assert payload == f.noise(50000) * 4


def test_a_socket_that_the_c_has_no_place_for_is_read_by_the_core(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process with very many descriptors: nothing may be left unread."""
    monkeypatch.setattr(NativePump, "can_serve", lambda self, fd: False)
    with pair("compiled", Way()) as (a, b):
        for _ in range(3):
            a.put([f.unfinished("udp4", bytes(64))])
            a.work()
            b.work()
            assert len(packets(b.taken())) == 1


def test_flows_that_hash_alike_all_arrive() -> None:
    with pair("compiled", Way()) as (a, b):
        native = a.loop._flows
        assert native is not None
        place = native._native.library.plait_place
        alike: dict[int, list[bytes]] = {}
        for number in range(40_000):
            source = b"\x02\xcc" + number.to_bytes(4, "big")
            alike.setdefault(place(f.MAC_B + source), []).append(source)
        sources = max(alike.values(), key=len)[:8]
        assert len(sources) == 8
        for _ in range(3):
            a.put([f.unfinished("udp4", bytes(64), source=source) for source in sources])
            a.work()
            b.work()
            assert {packet[6:12] for packet in packets(b.taken())} == set(sources)


def test_a_table_that_changes_is_asked_again() -> None:
    """A container that moves to the other host is found there by the next frame."""
    with pair("compiled", Way()) as (a, b):
        frames = [f.unfinished("udp4", bytes(64))]
        a.put(frames * 3)
        a.work()
        b.work()
        assert len(packets(b.taken())) == 3
        a.put([f.plain(0x0806, bytes(46), destination=f.BROADCAST, source=f.MAC_B)])
        a.work()
        a.put(frames * 3)
        a.work()
        b.work()
        assert len(packets(b.taken())) == 1, "only the broadcast: the bridge of the first host has the container now"
        assert a.loop._stats().counters["local"] == 3


def test_a_lost_connection_is_not_used_again() -> None:
    with pair("compiled", Way()) as (a, b):
        frames = [f.unfinished("udp4", bytes(64))] * 3
        a.put(frames)
        a.work()
        from_node(a, ipc.RemoveConnection(B))
        a.work()
        b.work()
        assert len(packets(b.taken())) == 3
        a.put(frames)
        a.work()
        b.work()
        assert packets(b.taken()) == []
        assert a.loop._stats().counters["no_link"] == 3


def from_node(host: Host, message: ipc.ToPump) -> None:
    for packet in split(ipc.encode(message)):
        host.node.send(packet)


def test_a_changed_key_is_used_at_once() -> None:
    with pair("compiled", WAYS["encrypted"]) as (a, b):
        frames = [f.unfinished("udp4", bytes(64))] * 3
        for generation in (1, 2):
            from_node(a, ipc.SetGeneration(B, generation))
            a.work()
            a.put(frames)
            a.work()
            b.work()
            assert b.taken() == [], "of a generation that the receiver did not ask for"
        assert b.loop._stats().counters["forged"] > 0


@pytest.mark.parametrize("case", ["damaged_datagrams_meet_the_same_judgement", "the_same_frames_come_out"])
def test_no_byte_outside_is_touched(tmp_path: Path, case: str) -> None:
    _, environment = sanitized(tmp_path)
    ids = [f"{__file__}::test_{case}[{seed}-{way}]" for seed in (0, 1) for way in WAYS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *ids]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)
    assert f"{2 * len(WAYS)} passed" in done.stdout, done.stdout[-2000:] + done.stderr[-3000:]
    assert done.returncode == 0
