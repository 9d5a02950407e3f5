"""What must never be: DF on a datagram larger than the interface takes, a raw socket, a long burst (spec: ufo-bug)."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.pump_lab import PORT, Site, blocking, pumping, sites
from lab.tracing import needs_strace, read_trace, strace
from plait.host.netlink import Netlink
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.datagram import FRAGMENTATION_TEST_LENGTH, HEARTBEAT_LENGTH, IP_UDP_BYTES
from plait.overlay.sleeve.sender import MAX_SEGMENTS
from plait.testing.lab import Lab
from plait.testing.lab.fixtures import lab

__all__ = ["lab"]

_DF = 0x40


@pytest.fixture
def pair(lab: Lab) -> Iterator[list[Site]]:
    with sites(lab) as made:
        yield made


async def exercise(a: Site, b: Site) -> None:
    """All that makes a pump send: bulk, small frames, ICMP, broadcast, MTU tests far too large, fragments."""
    assert await a.reaches(b, size=4000)
    assert await a.reaches6(b)
    await blocking(a.container.transfer, b.container, 1_000_000)
    await blocking(b.container.send_udp, a.container, count=300, size=64, interval=0.0)
    for length in (HEARTBEAT_LENGTH, 1000, 1452, 1453, 9000, 60_000):
        a.pump.send(ipc.SendSpecial(b.name, length, None, df=True))
    a.pump.send(ipc.SendSpecial(b.name, FRAGMENTATION_TEST_LENGTH, None, df=False))
    # As before the path is known: everything up to the largest datagram is tried.
    a.pump.set_path(b.name, (b.host.ip, PORT), 65535, 65507, False)
    await a.stats()
    assert await a.reaches(b)
    await b.wait_message(ipc.SpecialReceived, length=FRAGMENTATION_TEST_LENGTH)


def test_packets_on_the_wire(lab: Lab, pair: list[Site]) -> None:
    lab.super_wire(False)
    a, b = pair

    async def scenario() -> None:
        async with pumping(pair):
            await exercise(a, b)

    with a.host.capture(a.host.ports[0].device) as capture:
        asyncio.run(scenario())
        packets = [frame[14:] for frame in capture.frames() if frame[12:14] == b"\x08\x00"]
    ours = [packet for packet in packets if _source(packet) == a.host.ip]
    lengths = [int.from_bytes(packet[2:4], "big") for packet in ours]
    assert len(ours) > 700
    assert max(lengths) == lab.mtu
    assert {packet[9] for packet in ours} == {17}, "nothing but UDP"
    whole = [packet for packet in ours if packet[6:8] in (b"\x00\x00", b"\x40\x00")]
    assert {int.from_bytes(packet[20:22], "big") for packet in whole} == {PORT}
    assert any(packet[6] & _DF for packet in ours)
    assert any(not packet[6] & _DF for packet in ours)


def test_the_source_is_the_address_of_the_connection(pair: list[Site]) -> None:
    a, b = pair
    second = "10.99.0.77"

    def add_address() -> None:
        with Netlink(a.host.path) as netlink:
            netlink.add_address(a.host.ports[0].device, f"{second}/24")

    async def scenario() -> None:
        async with pumping(pair):
            await blocking(add_address)
            a.pump.send(ipc.SetConnection(int(b.name), second, None, True, 0))
            a.pump.set_path(b.name, (b.host.ip, PORT), 1438, 1472, True)
            for number, df in enumerate((True, False)):
                a.pump.send(ipc.SendSpecial(b.name, 100 + number, None, df))
                heard = await b.wait_message(ipc.SpecialReceived, length=100 + number)
                assert heard.source == (second, PORT)

    asyncio.run(scenario())


@needs_strace
def test_system_calls(pair: list[Site], tmp_path: Path) -> None:
    a, b = pair
    log = tmp_path / "strace"

    async def scenario() -> None:
        async with pumping(pair, wrapper=strace(log)):
            await exercise(a, b)

    asyncio.run(scenario())
    trace = read_trace(log)
    kinds = {"SOCK_DGRAM|SOCK_CLOEXEC", "SOCK_DGRAM|SOCK_CLOEXEC|SOCK_NONBLOCK"}
    assert set(trace.opened) <= {("AF_INET", kind) for kind in kinds}, "to ask for path MTUs, to receive from one"
    by_fd = trace.by_fd()
    assert set(by_fd) == {a.sockets.plain.fileno(), a.sockets.df.fileno()}
    most = a.host.ports[0].segment.mtu - IP_UDP_BYTES
    with_df = by_fd[a.sockets.df.fileno()]
    assert max(each.length for each in with_df if not each.is_segmented) <= most
    assert most < max(each.length for each in with_df if each.is_segmented) <= MAX_SEGMENTS * most


def _source(packet: bytes) -> str:
    return ".".join(map(str, packet[12:16]))
