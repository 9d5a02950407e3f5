"""The path MTU that two nodes find, on paths that tell, that keep silent, that lie and that change."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.metrics_lab import value
from lab.node_lab import PLAIT, check_logs, established, is_up, report
from lab.path_lab import (
    OVERLAY,
    PATIENCE,
    USER_SPACE,
    attach,
    both_ways,
    detail,
    join,
    narrow,
    statistic,
    wait_for_path,
)
from lab.tracing import needs_strace, read_trace, strace
from plait.testing.lab import Host, Lab, wait_until

SIZE = 5_000_000
RESOLUTION = 8
"""A search ends when it is this close."""

UDP_HEADERS = 28

STALL = 120.0
"""Seconds that TCP may rest after a loss of everything: its timer doubles, also beyond the end of the trouble."""


def settled(lab: Lab, *hosts: Host) -> None:
    """All say plait1 of their connection, and nothing went wrong."""
    for host in hosts:
        assert [each["Overlay"] for each in report(host)["Plait"]["Connections"]] == [OVERLAY]
    check_logs(lab)


@pytest.mark.parametrize("icmp", [True, False], ids=["told", "black-hole"])
def test_a_narrow_hop(lab: Lab, icmp: bool) -> None:
    one, other, _, _ = narrow(lab, icmp)
    here, there = join(one, other)
    for host, peer in ((one, other), (other, one)):
        wait_for_path(host, peer, lambda mtu: 1400 - RESOLUTION < mtu <= 1400, "1400 bytes pass")
        assert detail(host, peer)["MtuSource"]
    both_ways(here, there, SIZE)
    assert 1400 - RESOLUTION < detail(one, other)["PathMtu"] <= 1400
    settled(lab, one, other)


def test_a_forged_icmp_error_lowers_nothing(lab: Lab) -> None:
    one, other = lab.host("h1"), lab.host("h2")
    attacker = lab.host("h3")
    here, there = join(one, other)
    wait_for_path(one, other, lambda mtu: mtu == 1500, "1500 bytes pass")
    with ThreadPoolExecutor(1) as thread:
        transfer = thread.submit(both_ways, here, there, 4 * SIZE)
        while not transfer.done():
            for mtu in (600, 1000, 1300):
                attacker.forge_too_big(one, other, mtu)
            assert detail(one, other)["PathMtu"] == 1500
        transfer.result()
    assert "mtu 600" in one.run(["ip", "route", "get", other.ip]).stdout, "the kernel has heard the lies"
    assert detail(one, other)["PathMtu"] == 1500
    other.plait("stop")
    other.launch(one, extra=USER_SPACE)
    wait_until(lambda: established(one) == {other.name}, "the nodes meet again", PATIENCE)
    wait_for_path(one, other, lambda mtu: mtu == 1500, "1500 bytes pass, whatever the kernel believes")
    settled(lab, one, other)


def test_jumbo_frames(lab: Lab) -> None:
    wire = lab.switch(mtu=9000)
    one, other = lab.host("h1", on=[wire]), lab.host("h2", on=[wire])
    here, there = join(one, other)
    for host, peer in ((one, other), (other, one)):
        wait_for_path(host, peer, lambda mtu: mtu == 9000, "9000 bytes pass")
    both_ways(here, there, SIZE)
    settled(lab, one, other)


def test_a_path_that_shrinks_and_grows(lab: Lab) -> None:
    one, other, routers, middle = narrow(lab, icmp=False, mtu=1500)
    here, there = join(one, other)
    wait_for_path(one, other, lambda mtu: mtu == 1500, "1500 bytes pass")
    before = statistic(here, "ethwe", "tx_bytes")
    with ThreadPoolExecutor(1) as thread:
        transfer = thread.submit(here.transfer, there, 200_000_000, STALL)
        wait_until(lambda: statistic(here, "ethwe", "tx_bytes") > before + SIZE, "the transfer runs")
        for router in routers:
            lab.set_mtu(router, 1300, middle)
        assert not transfer.done(), "the transfer ended before the path shrank"
        transfer.result()
    for host, peer in ((one, other), (other, one)):
        wait_for_path(host, peer, lambda mtu: 1300 - RESOLUTION < mtu <= 1300, "1300 bytes pass")
    assert (value(one, "plait_connection_black_holes_total", peer=other.peer_name) or 0) >= 1
    for router in routers:
        lab.set_mtu(router, 1500, middle)
    for host in (one, other):  # who looks at its own interface has a reason to search again
        lab.set_mtu(host, 1600)
    for host, peer in ((one, other), (other, one)):
        wait_for_path(host, peer, lambda mtu: 1500 - RESOLUTION < mtu <= 1500, "1500 bytes pass again")
    both_ways(here, there, SIZE)
    settled(lab, one, other)


def test_an_interface_that_shrinks(lab: Lab) -> None:
    one, other = lab.host("h1"), lab.host("h2")
    here, there = join(one, other)
    wait_for_path(one, other, lambda mtu: mtu == 1500, "1500 bytes pass")
    for host in (one, other):
        lab.set_mtu(host, 1350)
    wait_for_path(one, other, lambda mtu: mtu == 1350, "1350 bytes pass")
    both_ways(here, there, SIZE)
    settled(lab, one, other)


@needs_strace
def test_nothing_longer_than_the_interface_takes_reaches_the_kernel(lab: Lab, tmp_path: Path) -> None:
    lab.super_wire(False)
    one, other, _, _ = narrow(lab, icmp=False)
    log = tmp_path / "trace"
    with other.capture("eth0") as capture:
        one.launch(extra=USER_SPACE)
        other.spawn(
            [*strace(log), *PLAIT, "launch", "--name", other.peer_name, "--nickname", other.name, *USER_SPACE, one.ip]
        )
        wait_until(lambda: is_up(other), "the traced node answers", PATIENCE)
        here, there = attach(one, other)
        wait_for_path(other, one, lambda mtu: 1400 - RESOLUTION < mtu <= 1400, "1400 bytes pass")
        both_ways(here, there, 1_000_000)
        assert there.send_udp(here, 20, size=8000).received == 20
        pump = report(other)["Plait"]["Pump"]["pid"]
        settled(lab, one, other)
        other.plait("stop")
        frames = capture.frames()
    trace = read_trace(log)
    assert [each for each in trace.raw_sockets() if "INET" in each[0]] == []
    # What the node sends on packet sockets are announcements of addresses, ARP, inside containers.
    assert all(each.length < 64 for each in trace.sent if each.socket in ("RAW", "PACKET"))
    pumped = read_trace(log, pump)
    assert pumped.raw_sockets() == []
    assert any(each.is_segmented for each in pumped.sent)
    single = [each.length for each in pumped.sent if not each.is_segmented]
    assert max(single) == 1500 - UDP_HEADERS, "the largest probe is as long as the interface takes"
    # The kernel has cut what is segmented: its parts are seen on the wire.
    ours = [frame for frame in frames if frame[12:14] == b"\x08\x00" and frame[26:30] == ip_bytes(other.ip)]
    assert max(map(len, ours)) == 14 + 1500
    assert {each[14 + 6] & 0x3F | each[14 + 7] for each in ours if each[23] == 17} == {0}, "no fragments"


def ip_bytes(address: str) -> bytes:
    return bytes(map(int, address.split(".")))
