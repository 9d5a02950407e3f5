"""Datagrams through two loopback sockets: runs, fall-backs and refusals."""

import errno
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from plait.host import udp
from plait.mesh.name import PeerName
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.cutting import PythonCutter
from plait.overlay.sleeve.plait1.engine import MAX_SEND_SEGMENTS, PythonEngine, Segments
from plait.overlay.sleeve.pump.core import PumpCore
from plait.overlay.sleeve.pump.input import BUFFER_BYTES, UdpInput
from plait.overlay.sleeve.pump.link import Link, Payloads, Socket, SuperFrame
from plait.overlay.sleeve.pump.output import UdpOutput
from plait.overlay.sleeve.pump.weave_link import WeaveLink
from plait.overlay.sleeve.sender import MAX_SEGMENTS, Path

HERE = "127.0.0.1"
PEER = PeerName(2)


class Bench:
    """A core, its output, and the sockets that hear what it sends."""

    def __init__(self, ours: udp.SleeveSockets, theirs: udp.SleeveSockets, peer_socket: socket.socket) -> None:
        self.core = PumpCore(PEER - 1, PythonEngine(), PythonCutter())
        self.ours = ours
        self.port = theirs.plain.getsockname()[1]
        buffer = bytearray(BUFFER_BYTES)
        self.inputs = [Hearing(theirs.plain, buffer), Hearing(theirs.df, buffer)]
        self.peer_socket: socket.socket | int = peer_socket
        peer_socket.connect((HERE, self.port))
        self.link: Link = WeaveLink(bytes(6), ipc.SetConnection(PEER, HERE, None, True, 0), PythonCutter())
        self.link.set_path(Path((HERE, self.port), 1438, 1472, True))
        self.use(ours.plain, ours.df)

    def use(self, plain: socket.socket, df: socket.socket) -> None:
        self.output = UdpOutput(self.core, [udp.SleeveSockets(plain, df)], lambda link: self.peer_socket)

    def send(self, df: bool, payloads: list[bytes]) -> None:
        self.output.send(Payloads(self.link, Socket.DF if df else Socket.PLAIN, payloads), 0.0)

    def send_to_peer(self, payloads: list[bytes]) -> None:
        self.output.send(Payloads(self.link, Socket.PEER, payloads), 0.0)

    def send_super(self, datagrams: list[bytes]) -> None:
        pieces = [piece for each in datagrams for piece in (each[:30], memoryview(each)[30:])]
        segments = Segments(pieces, 2, len(datagrams), len(datagrams[0]), sum(map(len, datagrams)))
        self.output.send(SuperFrame(self.link, segments), 0.0)

    def received(self) -> list[bytes]:
        return [payload for source in self.inputs for payload in source.all()]

    def failures(self) -> list[ipc.FromPump]:
        return self.core.take_messages()


class Hearing:
    """The receiving half of a socket, and what it heard datagram by datagram."""

    def __init__(self, sock: socket.socket, buffer: bytearray) -> None:
        self._buffer = buffer
        self._input = UdpInput(sock, buffer)

    def all(self) -> list[bytes]:
        payloads = []
        while (burst := self._input.read()) is not None:
            starts = range(0, max(burst.size, 1), burst.step)
            payloads += [bytes(self._buffer[at : min(at + burst.step, burst.size)]) for at in starts]
        return payloads


@pytest.fixture
def bench() -> Iterator[Bench]:
    with (
        udp.open_sleeve_sockets(HERE, 0) as ours,
        udp.open_sleeve_sockets(HERE, 0) as theirs,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as peer_socket,
    ):
        yield Bench(ours, theirs, peer_socket)


@pytest.mark.parametrize("df", [True, False], ids=["df", "plain"])
@pytest.mark.parametrize(
    "sizes",
    [
        [100],
        [1472] * (2 * MAX_SEGMENTS + 3),
        [1472] * 5 + [700] + [1472] * 3,
        [10, 20, 30],
        [1472, 1472, 1, 1472],
    ],
    ids=["one", "many", "tail", "growing", "mixed"],
)
def test_payloads_arrive_whole_and_in_order(bench: Bench, df: bool, sizes: list[int]) -> None:
    payloads = [bytes([number]) * size for number, size in enumerate(sizes)]
    bench.send(df, payloads)
    assert bench.received() == payloads
    assert bench.link.counters["tx_datagrams"] == len(sizes)
    assert bench.link.counters["tx_bytes"] == sum(sizes)


def test_an_empty_datagram_is_one(bench: Bench) -> None:
    bench.send(False, [b""])
    assert bench.received() == [b""]


def test_without_segmentation_they_leave_one_by_one(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "has_segmentation", lambda sock: False)
    bench.use(bench.ours.plain, bench.ours.df)
    payloads = [bytes(1472)] * 20
    bench.send(True, payloads)
    assert bench.received() == payloads


@pytest.mark.parametrize(("df", "refusal"), [(True, errno.EIO), (False, errno.EIO), (False, errno.EMSGSIZE)])
def test_runs_that_the_route_cannot_are_repeated_one_by_one(bench: Bench, df: bool, refusal: int) -> None:
    """As a route through IPsec does, or a plain run larger than the route's MTU."""
    with _NoRuns(bench.ours.df if df else bench.ours.plain, refusal) as stubborn:
        plain, df_socket = (bench.ours.plain, stubborn) if df else (stubborn, bench.ours.df)
        bench.use(plain, df_socket)
        payloads = [bytes(1472)] * (2 * MAX_SEGMENTS)
        bench.send(df, payloads)
        bench.send(df, payloads)
        assert bench.received() == 2 * payloads
        assert bench.failures() == []
        # A route that cannot is not asked again in the next burst; one that is only too narrow is.
        assert stubborn.refused == (2 if refusal == errno.EIO else 4)


class _NoRuns(socket.socket):
    """A socket whose route cannot segment."""

    def __init__(self, sock: socket.socket, refusal: int) -> None:
        super().__init__(fileno=os.dup(sock.fileno()))
        self.refused = 0
        self._refusal = refusal

    def sendmsg(self, run: Any, control: Any = (), *rest: Any) -> int:
        if any(kind == udp.UDP_SEGMENT for _, kind, _ in control):
            self.refused += 1
            raise OSError(self._refusal, "not here")
        return super().sendmsg(run, control, *rest)


def test_df_above_the_path_mtu_never_reaches_the_kernel(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(udp, "path_mtu", lambda *_: 1500)
    bench.send(True, [bytes(1473), bytes(1472)])
    assert bench.received() == [bytes(1472)]
    assert bench.failures() == [ipc.PacketTooBig(PEER)]
    assert bench.core.counters["refused_too_big"] == 1
    # A route that takes more is noticed by the next that is too large for the old one.
    monkeypatch.setattr(udp, "path_mtu", lambda *_: 1600)
    bench.send(True, [bytes(1572)])
    assert bench.received() == [bytes(1572)]


def test_an_address_of_ours_that_is_gone(bench: Bench) -> None:
    bench.link.local_ip = "192.0.2.1"
    bench.send(True, [b"a"])
    bench.send(True, [b"b"])
    assert bench.failures() == [ipc.SendFailed(PEER, errno.EADDRNOTAVAIL)]
    assert bench.link.counters["tx_dropped"] == 2


def test_a_new_path_is_used_at_once(bench: Bench) -> None:
    with udp.open_sleeve_sockets(HERE, 0) as elsewhere:
        bench.send(False, [b"old"])
        bench.link.set_path(Path((HERE, elsewhere.plain.getsockname()[1]), 1438, 1472, True))
        bench.send(False, [b"new"])
        assert bench.received() == [b"old"]
        heard = [Hearing(sock, bytearray(BUFFER_BYTES)) for sock in (elsewhere.plain, elsewhere.df)]
        assert [payload for source in heard for payload in source.all()] == [b"new"]
    bench.output.forget(PEER)
    bench.link.set_path(Path())
    bench.send(False, [b"nowhere"])
    assert bench.failures() == [ipc.SendFailed(PEER, errno.EDESTADDRREQ)]


# By the socket of one neighbour


@pytest.mark.parametrize(
    "sizes",
    [[100], [1472] * (MAX_SEND_SEGMENTS + 3), [1400] * 5 + [700] + [1400] * 3, [10, 20, 30]],
    ids=["one", "many", "tail", "growing"],
)
def test_payloads_for_a_peer_arrive_whole_and_in_order(bench: Bench, sizes: list[int]) -> None:
    payloads = [bytes([number]) * size for number, size in enumerate(sizes)]
    bench.send_to_peer(payloads)
    assert bench.received() == payloads
    assert bench.link.counters["tx_bytes"] == sum(sizes)
    assert bench.link.data_sent == len(sizes)


@pytest.mark.parametrize("count", [1, 2, MAX_SEND_SEGMENTS, MAX_SEND_SEGMENTS + 1, 2 * MAX_SEND_SEGMENTS])
@pytest.mark.parametrize("can_segment", [True, False])
def test_a_super_frame_arrives_whole_and_in_order(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, can_segment: bool, count: int
) -> None:
    if not can_segment:
        monkeypatch.setattr(udp, "has_segmentation", lambda sock: False)
        bench.use(bench.ours.plain, bench.ours.df)
    datagrams = [bytes([number]) * 500 for number in range(count)]
    datagrams[-1] = datagrams[-1][:99]
    bench.send_super(datagrams)
    assert bench.received() == datagrams
    assert bench.link.counters["tx_datagrams"] == count
    assert bench.link.counters["tx_bytes"] == 500 * (count - 1) + 99
    assert bench.failures() == []


@pytest.mark.parametrize("as_super", [True, False])
def test_a_route_to_the_peer_that_cannot_segment_gets_them_one_by_one(bench: Bench, as_super: bool) -> None:
    sock = bench.peer_socket
    assert isinstance(sock, socket.socket)
    with _NoRuns(sock, errno.EIO) as stubborn:
        bench.peer_socket = stubborn
        datagrams = [bytes([number]) * 1000 for number in range(20)]
        for _ in range(2):
            (bench.send_super if as_super else bench.send_to_peer)(datagrams)
        assert bench.received() == 2 * datagrams
        assert stubborn.refused == 1
        assert bench.failures() == []


def test_a_peer_without_a_socket_is_told_with_the_reason(bench: Bench) -> None:
    bench.peer_socket = errno.EADDRNOTAVAIL
    bench.send_super([bytes(100)] * 3)
    bench.send_to_peer([b"a"])
    assert bench.failures() == [ipc.SendFailed(PEER, errno.EADDRNOTAVAIL)]
    assert bench.link.counters["tx_dropped"] == 4
    assert bench.received() == []


def test_what_icmp_said_of_an_earlier_datagram_costs_no_later_one(bench: Bench) -> None:
    """A connected socket tells of "port unreachable" with the next send, which is not done then."""
    sock = bench.peer_socket
    assert isinstance(sock, socket.socket)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as nobody:
        nobody.bind((HERE, 0))
        nowhere = nobody.getsockname()
    sock.connect(nowhere)
    sock.send(b"to nobody")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as somebody:
        somebody.bind(nowhere)
        somebody.settimeout(10)
        bench.send_to_peer([b"a", b"bb"])
        assert [somebody.recv(10), somebody.recv(10)] == [b"a", b"bb"]
    assert bench.failures() == []


def test_answers_leave_for_the_address_they_are_for(bench: Bench) -> None:
    with udp.open_sleeve_sockets(HERE, 0) as elsewhere:
        heard = Hearing(elsewhere.plain, bytearray(BUFFER_BYTES))
        address = elsewhere.plain.getsockname()
        bench.link.set_path(Path())  # an answer needs no path
        bench.output.send(Payloads(bench.link, Socket.DF, [b"ack"], address, is_data=False), 0.0)
        assert heard.all() == [b"ack"]
        assert bench.link.data_sent == 0
