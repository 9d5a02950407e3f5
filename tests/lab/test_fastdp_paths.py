"""Kernels that carry frames over more than one hop, beside hosts that cannot, and over narrow and wide paths."""

import time
from itertools import permutations

import pytest

from lab.fastdp_lab import (
    BROADCAST,
    PATIENCE,
    attach,
    broadcasts_arrive_once,
    conf,
    drops,
    next_hop,
    pinging,
    wait_for_mesh,
    wait_for_overlay,
)
from lab.node_lab import check_logs, kill, report, wait_for_neighbours
from lab.path_lab import both_ways, narrow, statistic, wait_for_path
from plait.overlay.fastdp.datapath import DEVICE
from plait.overlay.fastdp.own_ways import GRACE
from plait.overlay.fastdp.tables import HopFlag, Via
from plait.testing.lab import Container, Host, Lab, wait_until
from plait.testing.lab.checksum import checksum

PORT = 6784
HOPS = 64
"""The outer TTL of frames that start here (fastdp.bpf.c)."""

MULTICAST = bytes.fromhex("01005e000105")


def chain(lab: Lab, *without_kernel: int) -> tuple[list[Host], list[Container]]:
    """Three hosts with a container each; the outer ones have no way to each other but the middle one."""
    left, right = lab.switch(), lab.switch()
    hosts = [lab.host("h1", on=[left]), lab.host("h2", on=[left, right]), lab.host("h3", on=[right])]
    extra = [["--no-fastdp"] if number in without_kernel else [] for number in (1, 2, 3)]
    hosts[1].launch(extra=extra[1])
    hosts[0].launch(hosts[1], extra=extra[0])
    hosts[2].launch(str(hosts[1].ports[1].address.ip), extra=extra[2])
    wait_for_neighbours(hosts[1], "h1", "h3")
    containers = [attach(host, host.container("c"), number) for number, host in enumerate(hosts, 1)]
    wait_until(lambda: containers[0].ping(containers[2], count=1).ok, "frames are relayed", PATIENCE)
    return hosts, containers


def join(one: Host, other: Host) -> tuple[Container, Container]:
    """Start nodes on two hosts, with a container each."""
    one.launch()
    other.launch(one)
    here, there = attach(one, one.container("c"), 1), attach(other, other.container("c"), 2)
    wait_until(lambda: here.ping(there, count=1).ok, "frames pass", PATIENCE)
    return here, there


def wait_for_mtu(near: Host, far: Host, mtu: int) -> None:
    wait_until(lambda: next_hop(near, far).mtu == mtu, f"the kernel knows that {mtu} bytes fit", PATIENCE)


def wait_for_relay(near: Host, far: Host) -> None:
    wait_until(lambda: next_hop(near, far).via is Via.VXLAN, "the kernel has a way", PATIENCE)


def wait_for_kernels(hosts: list[Host]) -> None:
    """Wait until the kernels of a chain have all ways by VXLAN."""
    for near, far in ((0, 1), (1, 0), (1, 2), (2, 1)):
        wait_for_overlay(hosts[near], hosts[far], "fastdp")
    for near, far in ((0, 2), (2, 0)):
        wait_for_relay(hosts[near], hosts[far])


def outer_headers(frames: list[bytes]) -> list[bytes]:
    """The IP headers of those that are VXLAN over IPv4."""
    return [frame[14:34] for frame in frames if frame[12:14] == b"\x08\x00" and frame[36:38] == PORT.to_bytes(2, "big")]


def test_a_middle_host_relays_in_the_kernel(lab: Lab) -> None:
    hosts, (one, two, three) = chain(lab)
    wait_for_kernels(hosts)
    for near, far in ((0, 2), (2, 0)):
        assert next_hop(hosts[near], hosts[far]).hop == conf(hosts[1]).our_id
    both_ways(one, three, 10_000_000)
    assert one.ping(three, count=50).ok
    assert one.ping(three, size=1422, dont_fragment=True).ok
    assert two.ping(three, count=20).ok
    broadcasts_arrive_once(one, two, three, groups=(BROADCAST, MULTICAST))
    check_logs(lab)


def test_relayed_frames_are_not_unpacked(lab: Lab) -> None:
    """Only the outer IP header changes, so no frame of a container comes in by the VXLAN device of the middle host."""
    hosts, (one, _, three) = chain(lab)
    wait_for_relay(hosts[0], hosts[2])
    wait_for_relay(hosts[2], hosts[0])
    for end in (hosts[0], hosts[2]):
        wait_until(lambda end=end: HopFlag.DIRECT in next_hop(hosts[1], end).flags, "it is direct", PATIENCE)  # type: ignore[misc]
    before = statistic(hosts[1], DEVICE, "rx_packets")
    with hosts[2].capture("eth0") as capture:
        assert one.ping(three, count=500, interval=0.002).ok
        relayed = [header for header in outer_headers(capture.frames()) if header[8] == HOPS - 1]
    assert statistic(hosts[1], DEVICE, "rx_packets") - before < 100, "heartbeats and ARP alone come by it"
    assert len(relayed) >= 500
    assert set(map(checksum, relayed)) == {0}
    counted = report(hosts[1])["Plait"]["Datapath"]["Neighbours"]
    assert all(min(each["TxPackets"], each["RxPackets"]) >= 500 for each in counted), counted
    assert {each["NickName"] for each in counted} == {"h1", "h3"}
    both_ways(one, three, 10_000_000)
    check_logs(lab)


@pytest.mark.parametrize("without_kernel", [1, 2, 3])
def test_one_of_three_hosts_without_a_kernel_that_carries(lab: Lab, without_kernel: int) -> None:
    hosts, (one, two, three) = chain(lab, without_kernel)
    for near, far in ((0, 1), (1, 0), (1, 2), (2, 1)):
        is_pump = without_kernel in (near + 1, far + 1)
        wait_for_overlay(hosts[near], hosts[far], "plait1" if is_pump else "fastdp")
    broadcasts_arrive_once(one, two, three, groups=(BROADCAST, MULTICAST))
    both_ways(one, three, 2_000_000)
    both_ways(two, three, 2_000_000)
    both_ways(one, two, 2_000_000)
    assert one.ping(three, count=50).ok
    check_logs(lab)


def test_three_hosts_that_all_know_each_other(lab: Lab) -> None:
    hosts = [lab.host(f"h{number}") for number in (1, 2, 3)]
    hosts[0].launch()
    hosts[1].launch(hosts[0])
    hosts[2].launch(hosts[0], extra=["--no-fastdp"])
    containers = [attach(host, host.container("c"), number) for number, host in enumerate(hosts, 1)]
    wait_for_mesh(*hosts)
    wait_for_overlay(hosts[0], hosts[1], "fastdp")
    wait_until(lambda: containers[1].ping(containers[2], count=1).ok, "frames pass", PATIENCE)
    broadcasts_arrive_once(*containers, groups=(BROADCAST, MULTICAST))
    check_logs(lab)


def test_a_node_that_is_killed_as_soon_as_it_is_back_is_reached_all_the_time(lab: Lab) -> None:
    """Its neighbours learn of it one after another, and must not send by way of each other."""
    hosts = [lab.host(name) for name in ("h1", "h2", "h3")]
    for host in hosts:
        host.launch(*hosts[: hosts.index(host)])
    one, two, three = [attach(host, host.container("c"), number) for number, host in enumerate(hosts, 1)]
    wait_for_mesh(*hosts)
    assert one.ping(two, count=1).ok
    assert three.ping(two, count=1).ok
    with pinging(one, two) as end, pinging(three, two) as end_too:
        for _ in range(6):
            for near, far in permutations(hosts, 2):
                wait_for_overlay(near, far, "fastdp")  # a pump dies with its node
            kill(hosts[1])
            hosts[1].launch(hosts[0], hosts[2])
        wait_for_mesh(*hosts)
        lost = [sent - answered for sent, answered in (end(), end_too())]
    assert lost == [0, 0]
    check_logs(lab)


def test_a_relay_that_is_killed_goes_on_relaying(lab: Lab) -> None:
    hosts, (one, _, three) = chain(lab)
    wait_for_kernels(hosts)
    time.sleep(GRACE)  # what is new is not held: it may come of a change that not all have heard of
    with pinging(one, three) as end:
        kill(hosts[1])
        wait_until(
            lambda: len(report(hosts[0])["Router"]["Peers"]) == 1, "its neighbour knows that it is gone", PATIENCE
        )
        broadcasts_arrive_once(one, three)
        hosts[1].launch()
        wait_for_neighbours(hosts[1], "h1", "h3")
        wait_for_relay(hosts[0], hosts[2])
        sent, answered = end()
    assert sent - answered == 0, f"{sent - answered} of {sent} lost"
    check_logs(lab)


@pytest.mark.parametrize("icmp", [True, False])
def test_a_narrow_hop_in_the_middle(lab: Lab, icmp: bool) -> None:
    one, other, _, _ = narrow(lab, icmp)
    here, there = join(one, other)
    for near, far in ((one, other), (other, one)):
        wait_for_overlay(near, far, "fastdp")
        wait_for_path(near, far, lambda mtu: mtu == 1400, "it carries 1400")
        wait_for_mtu(near, far, 1350)
        assert HopFlag.KERNEL_ANSWERS not in next_hop(near, far).flags
    assert here.ping(there, size=1322, dont_fragment=True).ok
    refused = here.ping(there, size=1323, dont_fragment=True)
    assert (refused.received, refused.error) == (0, "Message too long"), "the sender is told"
    both_ways(here, there, 5_000_000)
    assert here.ping(there, size=4000).ok
    check_logs(lab)


def test_jumbo_frames(lab: Lab) -> None:
    wide = lab.switch(mtu=9000)
    one, other = (lab.host(name, on=[wide]) for name in ("one", "other"))
    here, there = join(one, other)
    wait_for_path(one, other, lambda mtu: mtu == 9000, "it carries 9000")
    wait_for_overlay(one, other, "fastdp")
    wait_for_mtu(one, other, 8950)
    assert here.ping(there, size=8922, dont_fragment=True).ok
    both_ways(here, there, 20_000_000)
    assert not drops(one)["no_tunnel"]
    check_logs(lab)
