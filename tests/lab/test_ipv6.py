"""Nodes whose hosts have nothing but IPv6 between them, alone and beside others that have IPv4."""

import socket
import struct
from collections.abc import Iterator, Sequence

import pytest

from lab.fastdp_lab import (
    BROADCAST,
    PATIENCE,
    attach,
    broadcasts_arrive_once,
    conf,
    drops,
    frame,
    mac_of,
    next_hop,
    pinging,
    send_frames,
    streaming,
    wait_for_mesh,
    wait_for_overlay,
)
from lab.node_lab import check_logs, connections, kill, report, wait_for_neighbours
from lab.path_lab import USER_SPACE, both_ways, statistic, wait_for_path
from plait.overlay.fastdp.datapath import DEVICE as VXLAN_DEVICE
from plait.overlay.fastdp.tables import HopFlag, Via
from plait.overlay.fastdp.wire import pack_vni, vxlan_header
from plait.testing.lab import Container, Host, Lab, wait_until
from plait.testing.lab.features import missing_features

MULTICAST = bytes.fromhex("01005e000105")
SIZE = 5_000_000
PORT, VXLAN = 6783, 6784
DEVICE = ("--fastdp-encapsulation", "device")


def pair(lab: Lab, *options: str, password: str | None = None, mtu: int | None = None) -> tuple[Host, Host]:
    """Two nodes; the second calls the first."""
    wire = lab.switch(ipv6=True, mtu=mtu)
    one, other = lab.host("one", on=[wire]), lab.host("other", on=[wire])
    one.launch(extra=options, password=password)
    other.launch(one, extra=options, password=password)
    return one, other


def containers(*hosts: Host) -> list[Container]:
    """One on each host; waits until the first reaches all others."""
    made = [attach(host, host.container("c"), number) for number, host in enumerate(hosts, 1)]
    for each in made[1:]:
        wait_until(lambda each=each: made[0].ping(each, count=1).ok, "frames pass", PATIENCE)  # type: ignore[misc]
    return made


@pytest.mark.parametrize("password", [None, "secret"], ids=["plain", "encrypted"])
def test_two_nodes_in_user_space(lab: Lab, password: str | None) -> None:
    one, other = pair(lab, *(() if password else USER_SPACE), password=password)
    here, there = containers(one, other)
    wait_for_path(one, other, lambda mtu: mtu == 1500, "it carries 1500")
    said = wait_for_overlay(one, other, "plait1")
    overhead = 92 if password is None else 124
    assert (said["Mtu"], said["Encrypted"]) == (1500 - overhead, password is not None)
    assert said["Remote"] == f"[{other.ip}]:{PORT}"
    assert report(one)["Plait"]["Mtu"] == 1500 - overhead, "containers have what fits"
    assert connections(other)[f"[{one.ip}]:{PORT}"]["State"] == "established"
    both_ways(here, there, SIZE)
    assert here.ping(there, count=50, size=1500 - overhead - 28, dont_fragment=True).ok
    broadcasts_arrive_once(here, there, groups=(BROADCAST, MULTICAST))
    check_logs(lab)


def wait_for_relay(near: Host, far: Host) -> None:
    wait_until(lambda: next_hop(near, far).via is Via.VXLAN, "the kernel has a way", PATIENCE)


class Fast:
    """Two nodes whose kernels carry the frames, with a container each."""

    def __init__(self, lab: Lab, options: Sequence[str]) -> None:
        self.lab, self.options = lab, options
        self.one, self.other = pair(lab, *options)
        self.here, self.there = containers(self.one, self.other)
        for near, far in ((self.one, self.other), (self.other, self.one)):
            wait_for_overlay(near, far, "fastdp")
            wait_for_path(near, far, lambda mtu: mtu == 1500, "it carries 1500")


@pytest.fixture(scope="module", params=[(), DEVICE], ids=["direct", "device"])
def fast(request: pytest.FixtureRequest) -> Iterator[Fast]:
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as lab:
        made = Fast(lab, request.param)
        yield made
        check_logs(lab)


def test_the_kernel_carries_frames(fast: Fast) -> None:
    for near, far in ((fast.one, fast.other), (fast.other, fast.one)):
        hop = next_hop(near, far)
        assert (hop.via, hop.hop, hop.remote, hop.local) == (Via.VXLAN, conf(far).our_id, far.ip, near.ip)
        assert (HopFlag.DIRECT in hop.flags) is (not fast.options)
        assert report(near)["Plait"]["Mtu"] == hop.mtu == 1430
    both_ways(fast.here, fast.there, 4 * SIZE)
    broadcasts_arrive_once(fast.here, fast.there, groups=(BROADCAST, MULTICAST))
    fast.here.run(["ping", "-6", "-c", "5", "-i", "0.02", "-w", "10", "-s", "1382", "-M", "do", "fd00::2"])
    for source, target in ((fast.here, fast.there), (fast.there, fast.here)):
        for size in (8, 1402, 9000):
            got = source.send_udp(target, count=100, size=size)
            assert (got.received, got.duplicates, got.overtaken) == (100, 0, 0), size


def test_super_frames_stay_whole(fast: Fast) -> None:
    with fast.one.capture("eth0") as capture:
        both_ways(fast.here, fast.there, SIZE)
        longest = max(map(len, capture.frames()))
    assert longest > 10_000
    fast.lab.super_wire(False)
    try:
        both_ways(fast.here, fast.there, SIZE)
    finally:
        fast.lab.super_wire(True)


def test_too_long_packets_are_answered(fast: Fast) -> None:
    assert fast.here.ping(fast.there, size=1402, dont_fragment=True).ok
    refused = fast.here.ping(fast.there, size=1403, dont_fragment=True)
    assert (refused.received, refused.error) == (0, "Message too long")


def test_trace_and_status_name_the_addresses(fast: Fast) -> None:
    told = fast.one.plait("trace", fast.here.spec, "10.32.0.2").stdout
    assert f"[{fast.one.ip}]:* -> [{fast.other.ip}]:{VXLAN}" in told
    assert "3 of 3 questions were answered" in told
    assert f"remote {fast.other.ip}" in fast.one.plait("status", "datapath").stdout


def test_a_cut_of_vxlan_and_its_healing(fast: Fast) -> None:
    with streaming(fast.here, fast.there) as stream:
        stream.goes_on()
        fast.lab.cut(fast.one, fast.other, udp=[VXLAN])
        try:
            for near, far in ((fast.one, fast.other), (fast.other, fast.one)):
                assert "UDP port 6784" in wait_for_overlay(near, far, "plait1")["Reason"]
            stream.goes_on()
        finally:
            fast.lab.heal()
        for near, far in ((fast.one, fast.other), (fast.other, fast.one)):
            wait_for_overlay(near, far, "fastdp")
        stream.goes_on()


def test_killed_and_launched_again_nodes_lose_nothing(fast: Fast) -> None:
    with streaming(fast.here, fast.there) as stream, pinging(fast.here, fast.there) as end:
        for host, *peers in ((fast.one,), (fast.other, fast.one)):
            kill(host)
            stream.goes_on()
            host.launch(*peers, extra=fast.options)
            stream.goes_on()
        wait_for_neighbours(fast.one, fast.other.name)
        sent, answered = end()
    assert sent - answered == 0, f"{sent - answered} of {sent} lost"


@pytest.mark.parametrize(
    "options", [b"", bytes.fromhex("1100010400000000")], ids=["plain", "behind an extension header"]
)
def test_a_container_cannot_send_vxlan_as_a_host(fast: Fast, options: bytes) -> None:
    """Nor can it hide the UDP header behind an extension header, here destination options (60)."""
    victim, claimed = fast.one, fast.other
    inner = frame(mac_of(fast.here), mac_of(fast.there), b"from a container")
    payload = vxlan_header(pack_vni(conf(claimed).our_id, conf(victim).our_id)) + inner
    udp = struct.pack("!HHHH", 50000, VXLAN, 8 + len(payload), 0) + payload
    ends = socket.inet_pton(socket.AF_INET6, claimed.ip) + socket.inet_pton(socket.AF_INET6, victim.ip)
    head = struct.pack("!IHBB", 6 << 28, len(options) + len(udp), 60 if options else 17, 64) + ends
    before = drops(victim)["forged"]
    packet = mac_of(victim, "weave") + mac_of(fast.here) + b"\x86\xdd" + head + options + udp
    send_frames(fast.here, packet)
    wait_until(lambda: drops(victim)["forged"] == before + 1, "it is dropped as forged", PATIENCE)


def test_hosts_that_trust_each_other_go_without_encryption_of_frames(lab: Lab) -> None:
    one, other = pair(lab, "--trusted-subnets", "fd00:99::/48", password="secret")
    here, there = containers(one, other)
    assert wait_for_overlay(one, other, "fastdp")["Encrypted"] is False
    both_ways(here, there, SIZE)
    check_logs(lab)


@pytest.mark.parametrize("icmp", [True, False], ids=["told", "black-hole"])
@pytest.mark.parametrize("options", [(), USER_SPACE], ids=["kernel", "user space"])
def test_a_narrow_hop(lab: Lab, icmp: bool, options: tuple[str, ...]) -> None:
    left, middle, right = lab.switch(ipv6=True), lab.switch(ipv6=True, mtu=1400), lab.switch(ipv6=True)
    lab.router("r1", left, middle, icmp=icmp)
    lab.router("r2", middle, right, icmp=icmp)
    one, other = lab.host("one", on=[left]), lab.host("other", on=[right])
    one.launch(extra=options)
    other.launch(one, extra=options)
    here, there = containers(one, other)
    overhead = 92 if options else 70
    for near, far in ((one, other), (other, one)):
        wait_for_overlay(near, far, "plait1" if options else "fastdp")
        wait_for_path(near, far, lambda mtu: 1392 < mtu <= 1400, "it carries 1400")
    assert here.ping(there, size=1392 - overhead - 28, dont_fragment=True).ok
    refused = here.ping(there, size=1410 - overhead - 28, dont_fragment=True)
    assert (refused.received, refused.error) == (0, "Message too long")
    both_ways(here, there, SIZE)
    check_logs(lab)


@pytest.mark.parametrize("left_ipv6", [True, False], ids=["all by IPv6", "IPv4 and IPv6"])
def test_a_middle_host_relays(lab: Lab, left_ipv6: bool) -> None:
    left, right = lab.switch(ipv6=left_ipv6), lab.switch(ipv6=True)
    hosts = [lab.host("h1", on=[left]), lab.host("h2", on=[left, right]), lab.host("h3", on=[right])]
    hosts[1].launch()
    hosts[0].launch(hosts[1])
    hosts[2].launch(str(hosts[1].ports[1].address.ip))
    wait_for_neighbours(hosts[1], "h1", "h3")
    one, two, three = containers(*hosts)
    for at, to in ((0, 1), (1, 0), (1, 2), (2, 1)):
        wait_for_overlay(hosts[at], hosts[to], "fastdp")
        wait_for_path(hosts[at], hosts[to], lambda mtu: mtu == 1500, "it carries 1500")
    for at, to in ((0, 2), (2, 0)):
        wait_for_relay(hosts[at], hosts[to])
    before = statistic(hosts[1], VXLAN_DEVICE, "rx_packets")
    assert one.ping(three, count=500, interval=0.002).ok
    # Between versions of IP the VXLAN device writes other headers, else the outer IP header is changed in place.
    assert (statistic(hosts[1], VXLAN_DEVICE, "rx_packets") - before > 500) is not left_ipv6
    both_ways(one, three, 2 * SIZE)
    both_ways(one, two, SIZE)
    both_ways(two, three, SIZE)
    broadcasts_arrive_once(one, two, three, groups=(BROADCAST, MULTICAST))
    assert one.ping(three, size=1402, dont_fragment=True).ok
    if not left_ipv6:  # what fits the first way does not fit the second, and the relay says so
        assert report(hosts[0])["Plait"]["Mtu"] == 1450
        refused = one.ping(three, size=1403, dont_fragment=True)
        assert (refused.received, refused.error) == (0, "Message too long")
    check_logs(lab)


def test_peers_on_ipv6_are_discovered(lab: Lab) -> None:
    wire = lab.switch(ipv6=True)
    hosts = [lab.host(f"h{number}", on=[wire]) for number in (1, 2, 3)]
    hosts[0].launch(extra=["--host", hosts[0].ip])
    hosts[1].launch(f"[{hosts[0].ip}]:{PORT}")
    hosts[2].launch(hosts[0])
    wait_for_mesh(*hosts)
    made = containers(*hosts)
    broadcasts_arrive_once(*made)
    check_logs(lab)
