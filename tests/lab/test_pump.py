"""Pumps as processes on a real kernel: frames arrive, limits are met, deaths heal."""

import asyncio
import os
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from lab.pump_lab import PATIENCE, PORT, TAP, Site, blocking, connect, key_between, pumping, sites
from plait.host.netlink import Netlink
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.crypto import Sealer
from plait.overlay.sleeve.datagram import (
    FRAGMENTATION_TEST_LENGTH,
    HEARTBEAT_LENGTH,
    Record,
    encode_plain,
    encode_records,
    special_frame,
)
from plait.overlay.sleeve.outbox import MAX_WAITING_EVENTS, SEQUENCES_PER_PUMP
from plait.overlay.sleeve.pump.counters import COUNTERS
from plait.testing.lab import Host, Lab
from plait.testing.lab.fixtures import lab

__all__ = ["lab"]

UID = 0x1122334455667788
BOTH = pytest.mark.parametrize("is_encrypted", [False, True], ids=["plain", "encrypted"])


@pytest.fixture
def pair(lab: Lab) -> Iterator[list[Site]]:
    with sites(lab) as made:
        yield made


def send_from(host: Host, payloads: list[bytes], target: str) -> None:
    """Send UDP payloads to a pump's port, as any program on that host could."""
    with host.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for payload in payloads:
            sock.sendto(payload, (target, PORT))


def record(src: Site, dst: Site, frame: bytes) -> Record:
    return src.name.to_bytes6(), dst.name.to_bytes6(), frame


# Frames


@BOTH
def test_ping_and_bulk(pair: list[Site], is_encrypted: bool) -> None:
    a, b = pair

    async def scenario() -> None:
        async with pumping(pair, is_encrypted=is_encrypted):
            assert await a.reaches(b)
            assert await b.reaches6(a)
            moved = await blocking(a.container.transfer, b.container, 3_000_000)
            assert moved.transferred_bytes == 3_000_000
            stats = await b.stats()
            assert stats.peers[a.name]["rx_bytes"] > 3_000_000
            refused = ("forged", "replayed", "malformed", "unknown_hop", "tap_refused", "receive_errors")
            assert {reason: stats.counters[reason] for reason in refused} == dict.fromkeys(refused, 0)

    asyncio.run(scenario())


def test_bulk_over_a_wire_of_single_packets(lab: Lab, pair: list[Site]) -> None:
    lab.super_wire(False)
    a, b = pair

    async def scenario() -> None:
        async with pumping(pair):
            moved = await blocking(a.container.transfer, b.container, 3_000_000)
            assert moved.transferred_bytes == 3_000_000

    asyncio.run(scenario())


@BOTH
def test_relay_and_broadcast_over_a_third(lab: Lab, is_encrypted: bool) -> None:
    async def scenario(row: list[Site]) -> None:
        a, b, c = row
        async with pumping(row, is_encrypted=is_encrypted):
            # The first ping needs ARP, which is a broadcast along the tree.
            assert await a.reaches(c)
            assert await c.reaches6(a)
            moved = await blocking(a.container.transfer, c.container, 500_000)
            assert moved.transferred_bytes == 500_000
            stats = await b.stats()
            assert stats.peers[c.name]["tx_bytes"] > 500_000
            assert set(stats.counters) == set(COUNTERS)
            assert {a.name, c.name} <= {entry.peer for entry in (await a.stats()).macs}

    with sites(lab, 3) as row:
        asyncio.run(scenario(row))


def test_small_datagrams_share_payloads(pair: list[Site]) -> None:
    a, b = pair

    async def scenario() -> None:
        async with pumping(pair):
            assert await a.reaches(b)
            result = await blocking(a.container.send_udp, b.container, count=900, size=64, interval=0.0)
            assert result.received == result.sent
            await b.wait_counter("injected", 900)
            sent = (await a.stats()).peers[b.name]
            assert sent["tx_datagrams"] < sent["tx_frames"]

    asyncio.run(scenario())


# Special frames


@BOTH
def test_specials_reach_the_node(pair: list[Site], is_encrypted: bool) -> None:
    a, b = pair

    async def scenario() -> None:
        async with pumping(pair, is_encrypted=is_encrypted):
            a.pump.send(ipc.SendSpecial(b.name, HEARTBEAT_LENGTH, UID, df=True))
            a.pump.send(ipc.SendSpecial(b.name, 1000, None, df=True))
            a.pump.send(ipc.SendSpecial(b.name, FRAGMENTATION_TEST_LENGTH, None, df=False))
            heartbeat = await b.wait_message(ipc.SpecialReceived, length=HEARTBEAT_LENGTH)
            assert heartbeat == ipc.SpecialReceived(a.name, (a.host.ip, PORT), HEARTBEAT_LENGTH, UID, all_zero=False)
            await b.wait_message(ipc.SpecialReceived, length=1000, all_zero=True, uid=None)
            await b.wait_message(ipc.SpecialReceived, length=FRAGMENTATION_TEST_LENGTH, all_zero=True)

    asyncio.run(scenario())


def test_specials_of_others_are_dropped(pair: list[Site]) -> None:
    a, b = pair
    frame = special_frame(100)
    foreign = [record(b, b, frame), record(a, a, frame)]

    async def scenario() -> None:
        async with pumping(pair):
            payloads = [encode_plain(a.name.to_bytes6(), [each]) for each in foreign]
            await blocking(send_from, a.host, payloads, b.host.ip)
            await b.wait_counter("foreign_special", 2)
            assert not any(isinstance(message, ipc.SpecialReceived) for message in b.messages)

    asyncio.run(scenario())


# Limits


def test_a_smaller_path_is_told_to_containers(pair: list[Site]) -> None:
    a, b = pair

    async def scenario() -> None:
        async with pumping(pair):
            for one, other in ((a, b), (b, a)):
                one.pump.set_path(other.name, (other.host.ip, PORT), 1300, 1334, True)
                await one.stats()
            # Streams that the kernel has not cut yet are cut to what fits, nobody need be told.
            moved = await blocking(a.container.transfer, b.container, 500_000)
            assert moved.transferred_bytes == 500_000
            done = await blocking(a.container.run, ["ping", "-Mdo", "-c1", "-W5", "-s1380", b.ip], check=False)
            # A segment of the stream that came alone may have been answered already.
            assert "mtu = 1300" in done.stdout or "mtu=1300" in done.stderr
            assert await a.wait_counter("answered")
            assert (await a.stats()).counters["refused_too_big"] == 0
            # Not for IPv6: with fragments known to pass, the outer datagram is fragmented.
            assert await a.reaches6(b, "-s1380")

    asyncio.run(scenario())


def test_ipv6_is_told_where_fragments_are_lost(pair: list[Site]) -> None:
    a, b = pair

    async def scenario() -> None:
        async with pumping(pair, stack_frag=False):
            assert await a.reaches6(b)
            a.pump.set_path(b.name, (b.host.ip, PORT), 1300, 1334, False)
            await a.stats()
            # The first is answered with "packet too big", then the container's kernel fragments.
            assert not await a.reaches6(b, "-c1", "-s1380")
            assert await a.wait_counter("answered")
            assert await a.reaches6(b, "-s1380")

    asyncio.run(scenario())


@pytest.mark.parametrize("stack_frag", [False, True], ids=["inner", "outer"])
def test_fragments(lab: Lab, stack_frag: bool) -> None:
    async def scenario(row: list[Site]) -> None:
        a, b = row
        async with pumping(row, stack_frag=stack_frag):
            assert await a.reaches(b, size=3000)
            assert (await a.stats()).counters["fragmented"] == (0 if stack_frag else 2)

    # Containers with a larger MTU than the path has, as Weave gives them.
    with sites(lab, mtus=[8000, 8000]) as row:
        asyncio.run(scenario(row))


def test_frames_larger_than_the_local_mtu(lab: Lab) -> None:
    async def scenario(row: list[Site]) -> None:
        a, b = row
        async with pumping(row):
            assert await a.reaches(b, size=1380)
            assert await b.wait_counter("fragmented", 2)
            done = await blocking(a.container.run, ["ping", "-Mdo", "-c1", "-W5", "-s1380", b.ip], check=False)
            assert "mtu = 1000" in done.stdout
            assert await b.wait_counter("too_big_here")

    with sites(lab, mtus=[1438, 1000]) as row:
        asyncio.run(scenario(row))


def test_the_kernel_refuses_what_the_path_does_not_take(lab: Lab, pair: list[Site]) -> None:
    a, b = pair

    async def scenario() -> None:
        async with pumping(pair):
            assert await a.reaches(b)
            await blocking(lab.set_mtu, a.host, 1300)
            a.pump.send(ipc.SendSpecial(b.name, 1438 + 14, None, df=True))
            await a.wait_message(ipc.PacketTooBig, peer=b.name)
            assert (await a.stats()).counters["refused_too_big"] == 1
            # An even larger one is not even given to the kernel, and one that fits goes on its way.
            a.pump.send(ipc.SendSpecial(b.name, 5000, None, df=True))
            await a.wait_counter("refused_too_big", 2)
            a.pump.send(ipc.SendSpecial(b.name, 1300 - 62 + 14, None, df=True))
            await b.wait_message(ipc.SpecialReceived, length=1300 - 62 + 14)

    asyncio.run(scenario())


def test_a_lost_address_is_told_once(pair: list[Site]) -> None:
    a, b = pair

    def lose_address() -> None:
        with Netlink(a.host.path) as netlink:
            port = a.host.ports[0]
            netlink.delete_address(port.device, port.address)

    async def scenario() -> None:
        async with pumping(pair):
            assert await a.reaches(b)
            await blocking(lose_address)
            for _ in range(3):
                a.pump.send(ipc.SendSpecial(b.name, HEARTBEAT_LENGTH, UID, df=True))
            await a.wait_counter("send_failed", 3)
            # Once for each socket: the containers' own broadcasts go by the other one.
            told = [message for message in a.messages if isinstance(message, ipc.SendFailed)]
            assert 1 <= len(told) <= 2

    asyncio.run(scenario())


def test_a_tap_that_is_down_is_told(pair: list[Site]) -> None:
    a, b = pair

    def set_tap(up: bool) -> None:
        with Netlink(b.host.path) as netlink:
            netlink.set_link(TAP, up=up)

    async def scenario() -> None:
        async with pumping(pair):
            assert await a.reaches(b)
            await blocking(set_tap, False)
            payload = encode_plain(a.name.to_bytes6(), [record(a, b, b"\xff" * 6 + bytes(6) + b"\x88\xb5")])
            await blocking(send_from, a.host, [payload], b.host.ip)
            complaint = await b.wait_message(ipc.Complaint)
            assert "the tap takes no frames" in complaint.text
            await blocking(set_tap, True)
            assert await a.reaches(b)

    asyncio.run(scenario())


def test_a_tap_that_is_removed_is_told(pair: list[Site]) -> None:
    a, _ = pair

    def remove_tap() -> None:
        with Netlink(a.host.path) as netlink:
            netlink.delete_link(TAP)

    async def scenario() -> None:
        async with pumping(pair):
            await blocking(remove_tap)
            complaint = await a.wait_message(ipc.Complaint)
            assert "the tap was removed" in complaint.text
            await a.stats()
            assert a.deaths == []

    asyncio.run(scenario())


# Strangers


def test_garbage_harms_nobody(pair: list[Site]) -> None:
    a, b = pair
    rng = random.Random(6783)
    strangers = [rng.randbytes(rng.randrange(0, 1400)) for _ in range(1000)]
    imitations = [a.name.to_bytes6() + rng.randbytes(rng.randrange(1, 1400)) for _ in range(1000)]

    async def scenario() -> None:
        async with pumping(pair):
            assert await a.reaches(b)
            await blocking(send_from, a.host, strangers + imitations, b.host.ip)
            await b.wait_counter("unknown_hop", 1000)
            await b.wait_counter("malformed", 900)
            assert await a.reaches(b)
            assert b.deaths == []

    asyncio.run(scenario())


def test_forged_and_replayed_datagrams(pair: list[Site]) -> None:
    a, b = pair
    name = a.name.to_bytes6()
    records = encode_records([record(a, b, special_frame(100))])
    # Ahead of the numbers that the pump itself uses: of frames that containers send by themselves.
    sealer = Sealer(name, key_between(1, 2), is_outbound=True, first_sequence=SEQUENCES_PER_PUMP + 1000)
    good = sealer.seal(records, df=False)
    forged = good[:-1] + bytes([good[-1] ^ 1])

    async def scenario() -> None:
        async with pumping(pair, is_encrypted=True):
            await blocking(send_from, a.host, [forged, good, good, good[:10]], b.host.ip)
            await b.wait_message(ipc.SpecialReceived, length=100)
            counters = (await b.stats()).counters
            assert (counters["forged"], counters["replayed"], counters["malformed"]) == (1, 1, 1)
            assert sum(isinstance(message, ipc.SpecialReceived) for message in b.messages) == 1

    asyncio.run(scenario())


def test_a_flood_of_specials_is_cut_off(pair: list[Site]) -> None:
    a, b = pair
    payload = encode_plain(a.name.to_bytes6(), [record(a, b, special_frame(100))] * 10)

    async def scenario() -> None:
        async with pumping(pair):
            await blocking(send_from, a.host, [payload] * 100, b.host.ip)
            await b.wait_counter("special_flood", 100)

    asyncio.run(scenario())


# Lives and deaths


@BOTH
def test_a_killed_pump_is_replaced(pair: list[Site], is_encrypted: bool) -> None:
    a, b = pair

    async def scenario() -> None:
        async with pumping(pair, is_encrypted=is_encrypted):
            assert await a.reaches(b)
            first = a.pump.state.pid
            assert first is not None
            os.kill(first, signal.SIGKILL)
            assert "SIGKILL" in await a.wait_death()
            await a.pump.wait_ready()
            assert a.pump.state.restarts == 1
            assert a.pump.state.pid != first
            assert a.pump.state.last_death == a.deaths[0]
            # The first frames may meet a pump that has its tables in part.
            assert await a.reaches(b) or await a.reaches(b)
            assert (await b.stats()).counters["replayed"] == 0

    asyncio.run(scenario())


def test_a_new_pump_is_told_only_what_still_holds(pair: list[Site]) -> None:
    a, b = pair

    async def scenario() -> None:
        async with pumping(pair):
            assert set((await a.stats()).peers) == {b.name}
            a.pump.remove_connection(b.name)
            assert set((await a.stats()).peers) == set()
            pid = a.pump.state.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await a.wait_death()
            await a.pump.wait_ready()
            assert set((await a.stats()).peers) == set()
            connect(a, pair)
            assert await a.reaches(b)

    asyncio.run(scenario())


def test_a_pump_that_hangs_does_not_hold_up_the_node(pair: list[Site]) -> None:
    a, b = pair

    async def scenario() -> None:
        async with pumping(pair):
            pid = a.pump.state.pid
            assert pid is not None
            os.kill(pid, signal.SIGSTOP)
            try:
                for number in range(3 * MAX_WAITING_EVENTS):
                    a.pump.send(ipc.SendSpecial(b.name, HEARTBEAT_LENGTH, number, df=True))
                    a.pump.set_path(b.name, (b.host.ip, PORT), 1000 + number % 100, 1472, True)
                assert await a.pump.stats() is None
            finally:
                os.kill(pid, signal.SIGCONT)
            assert await a.reaches(b)
            assert a.deaths == []

    asyncio.run(scenario())


def test_routes_of_a_large_mesh_pass_the_channel(pair: list[Site]) -> None:
    a, b = pair
    peers = [(0x02 << 40) + number for number in range(300)]

    async def scenario() -> None:
        async with pumping(pair):
            known = [a.name, b.name, *peers]
            trees = {source: [peer for peer in known if peer != a.name] for source in known}
            a.pump.set_routes(known, dict.fromkeys([b.name, *peers], b.name), trees)
            await a.stats()
            assert await a.reaches(b)
            # A broadcast went towards every neighbour of the tree, and only one has a connection.
            assert (await a.stats()).counters["no_link"] >= len(peers)

    asyncio.run(scenario())


def test_the_pump_ends_with_its_node(pair: list[Site]) -> None:
    a, _ = pair
    pids = []

    async def scenario() -> None:
        async with pumping(pair):
            pids.append(a.pump.state.pid)

    asyncio.run(scenario())
    assert not Path(f"/proc/{pids[0]}").exists()


NODE = """
import asyncio
from plait.host.tap import open_tap
from plait.host.udp import open_sleeve_sockets
from plait.mesh.name import PeerName
from plait.overlay.sleeve.supervisor import Pump

async def main() -> None:
    with open_sleeve_sockets("", 0) as sockets:
        pump = Pump(PeerName(1), 0, open_tap("tap0"), [sockets], lambda _: None, print)
        task = asyncio.create_task(pump.run())
        await pump.wait_ready()
        print(pump.state.pid, flush=True)
        await task

asyncio.run(main())
"""


def test_a_pump_that_hangs_ends_with_its_node(lab: Lab) -> None:
    """Even then: the kernel kills it, not the closed channel."""
    node = subprocess.Popen(["unshare", "-n", sys.executable, "-c", NODE], stdout=subprocess.PIPE, text=True)
    assert node.stdout is not None
    with node, node.stdout:
        pid = int(node.stdout.readline())
        ended = os.pidfd_open(pid)
        try:
            signal.pidfd_send_signal(ended, signal.SIGSTOP)
            node.kill()
            assert _has_ended(ended)
        finally:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(ended, signal.SIGKILL)
            os.close(ended)


def _has_ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], PATIENCE)[0])
