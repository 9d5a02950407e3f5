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
from plait.overlay.sleeve.pump.core import Outgoing, PumpCore
from plait.overlay.sleeve.pump.input import UdpInput
from plait.overlay.sleeve.pump.link import Link
from plait.overlay.sleeve.pump.output import UdpOutput
from plait.overlay.sleeve.sender import MAX_SEGMENTS, Path

HERE = "127.0.0.1"
PEER = PeerName(2)


class Bench:
    """A core, its output, and the sockets that hear what it sends."""

    def __init__(self, ours: udp.SleeveSockets, theirs: udp.SleeveSockets) -> None:
        self.core = PumpCore(PeerName(1))
        self.ours = ours
        self.port = theirs.plain.getsockname()[1]
        self.inputs = [UdpInput(theirs.plain), UdpInput(theirs.df)]
        self.output = UdpOutput(self.core, ours.plain, ours.df)
        self.link = Link(bytes(6), ipc.SetConnection(PEER, HERE, None, True, 0))
        self.link.set_path(Path((HERE, self.port), 1438, 1472, True))

    def send(self, df: bool, payloads: list[bytes]) -> None:
        self.output.send([Outgoing(self.link, df, payloads)], 0.0)

    def received(self) -> list[bytes]:
        return [payload for source in self.inputs for payload in all_of(source)]

    def failures(self) -> list[ipc.FromPump]:
        return self.core.take_messages()


def all_of(source: UdpInput) -> list[bytes]:
    payloads = []
    while (burst := source.read()) is not None:
        payloads += burst[1]
    return payloads


@pytest.fixture
def bench() -> Iterator[Bench]:
    with udp.open_sleeve_sockets(HERE, 0) as ours, udp.open_sleeve_sockets(HERE, 0) as theirs:
        yield Bench(ours, theirs)


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
    bench.output = UdpOutput(bench.core, bench.ours.plain, bench.ours.df)
    payloads = [bytes(1472)] * 20
    bench.send(True, payloads)
    assert bench.received() == payloads


@pytest.mark.parametrize(("df", "refusal"), [(True, errno.EIO), (False, errno.EIO), (False, errno.EMSGSIZE)])
def test_runs_that_the_route_cannot_are_repeated_one_by_one(bench: Bench, df: bool, refusal: int) -> None:
    """As a route through IPsec does, or a plain run larger than the route's MTU."""
    with _NoRuns(bench.ours.df if df else bench.ours.plain, refusal) as stubborn:
        plain, df_socket = (bench.ours.plain, stubborn) if df else (stubborn, bench.ours.df)
        bench.output = UdpOutput(bench.core, plain, df_socket)
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

    def sendmsg(self, run: Any, *rest: Any) -> int:
        if len(run) > 1:
            self.refused += 1
            raise OSError(self._refusal, "not here")
        return super().sendmsg(run, *rest)


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
        heard = [UdpInput(sock) for sock in (elsewhere.plain, elsewhere.df)]
        assert [payload for source in heard for payload in all_of(source)] == [b"new"]
    bench.output.forget(PEER)
    bench.link.set_path(Path())
    bench.send(False, [b"nowhere"])
    assert bench.failures() == [ipc.SendFailed(PEER, errno.EDESTADDRREQ)]
