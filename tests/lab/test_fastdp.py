"""Two nodes whose kernels carry the frames between their containers, and what happens when they cannot."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from lab.fastdp_lab import (
    BROADCAST,
    PATIENCE,
    attach,
    broadcasts_arrive_once,
    conf,
    connection,
    mac_of,
    next_hop,
    pinging,
    pins,
    streaming,
    wait_for_overlay,
)
from lab.node_lab import check_logs, kill, log, report, wait_for_neighbours
from lab.path_lab import both_ways
from plait.host.bpf.maps import Map
from plait.overlay.fastdp.datapath import PINS
from plait.overlay.fastdp.tables import HopFlag, Via
from plait.testing.lab import Container, Host, Lab, wait_until
from plait.testing.lab.features import missing_features

MULTICAST = bytes.fromhex("01005e000105")
UNKNOWN = bytes.fromhex("02eeeeeeee01")
VXLAN = 6784
RESTARTS = int(os.environ.get("PLAIT_TEST_RESTARTS", "20"))


@dataclass
class Pair:
    """Two nodes with a container each; the second calls the first."""

    lab: Lab
    one: Host
    other: Host
    here: Container
    there: Container

    def wait_for(self, overlay: str) -> None:
        wait_for_overlay(self.one, self.other, overlay)
        wait_for_overlay(self.other, self.one, overlay)


def make_pair(lab: Lab, *options: str, password: str | None = None, names: tuple[str, str] = ("one", "other")) -> Pair:
    one, other = (lab.host(name) for name in names)
    one.launch(extra=options, password=password)
    other.launch(one, extra=options, password=password)
    here, there = attach(one, one.container("c"), 1), attach(other, other.container("c"), 2)
    wait_until(lambda: here.ping(there, count=1).ok, "frames pass", PATIENCE)
    return Pair(lab, one, other, here, there)


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as lab:
        made = make_pair(lab)
        made.wait_for("fastdp")
        yield made
        check_logs(lab)


@contextmanager
def healed(lab: Lab) -> Iterator[None]:
    try:
        yield
    finally:
        lab.heal()


def test_the_kernel_carries_frames_and_status_says_why(pair: Pair) -> None:
    for near, far in ((pair.one, pair.other), (pair.other, pair.one)):
        said = connection(near, far)
        assert said["Overlay"] == "fastdp"
        hop = next_hop(near, far)
        assert (hop.via, hop.hop, hop.remote, hop.local) == (Via.VXLAN, conf(far).our_id, far.ip, near.ip)
        assert HopFlag.DIRECT in hop.flags
        line = near.plait("status", "connections").stdout
        assert "fastdp" in line
        assert "fastdp is the first choice" in line


def test_the_mtu_is_what_the_underlay_leaves(pair: Pair) -> None:
    wait_until(lambda: next_hop(pair.one, pair.other).mtu == 1450, "the path's MTU is found", PATIENCE)
    assert pair.here.ping(pair.there, size=1422, dont_fragment=True).ok
    refused = pair.here.ping(pair.there, size=1423, dont_fragment=True)
    assert (refused.received, refused.error) == (0, "Message too long")
    assert pair.here.ping(pair.there, size=4000).ok, "in fragments"


def test_tcp_and_udp_both_ways(pair: Pair) -> None:
    both_ways(pair.here, pair.there, 20_000_000)
    for near, far in ((pair.here, pair.there), (pair.there, pair.here)):
        for size in (1, 100, 1422, 9000):
            got = near.send_udp(far, count=100, size=max(8, size))
            assert (got.received, got.duplicates, got.overtaken) == (100, 0, 0), size


def test_single_packets_on_the_wire(pair: Pair) -> None:
    pair.lab.super_wire(False)
    try:
        both_ways(pair.here, pair.there, 10_000_000)
    finally:
        pair.lab.super_wire(True)


def test_ipv6_inside(pair: Pair) -> None:
    pair.here.run(["ping", "-6", "-c", "5", "-i", "0.02", "-w", "10", "-s", "1402", "-M", "do", "fd00::2"])
    with pair.there.entered():
        listener = socket.create_server(("fd00::2", 0), family=socket.AF_INET6)
    with pair.here.entered():
        sender = socket.socket(socket.AF_INET6)
    with listener, sender:
        sender.settimeout(PATIENCE)
        sender.connect(listener.getsockname())
        receiver, _ = listener.accept()
        with receiver:
            receiver.settimeout(PATIENCE)
            data = os.urandom(1 << 16)
            sender.sendall(data)
            sender.shutdown(socket.SHUT_WR)
            with receiver.makefile("rb") as file:
                assert file.read() == data


def test_broadcast_multicast_and_unknown_addresses_come_out_once(pair: Pair) -> None:
    broadcasts_arrive_once(pair.here, pair.there, groups=(BROADCAST, MULTICAST, UNKNOWN))


def test_a_second_container_here_and_arp_from_nothing(pair: Pair) -> None:
    second = attach(pair.one, pair.one.container("second"), 3)
    for near, far in ((second, pair.there), (pair.there, second), (second, pair.here)):
        near.run(["ip", "neigh", "flush", "all"])
        assert near.ping(far, count=5).ok
    pair.one.plait("detach", second.spec)


def test_an_exposed_host(pair: Pair) -> None:
    pair.one.plait("expose", "10.32.0.100/12")
    try:
        for near in (pair.here, pair.there):
            assert near.ping("10.32.0.100", count=20).ok
        assert pair.one.ping(pair.there, count=20).ok
    finally:
        pair.one.plait("hide", "10.32.0.100/12")


def test_a_cut_of_vxlan_and_its_healing(pair: Pair) -> None:
    with healed(pair.lab), streaming(pair.here, pair.there) as stream:
        for one_way in (False, True):
            stream.goes_on()
            pair.lab.cut(pair.one, pair.other, one_way=one_way, udp=[VXLAN])
            for near, far in ((pair.one, pair.other), (pair.other, pair.one)):
                said = wait_for_overlay(near, far, "plait1")
                assert "UDP port 6784" in said["Reason"], said
                assert next_hop(near, far).via is Via.PUMP
                assert "UDP port 6784" in near.plait("status", "connections").stdout
            stream.goes_on()
            assert pair.here.ping(pair.there, count=20).ok
            broadcasts_arrive_once(pair.here, pair.there)
            pair.lab.heal()
            pair.wait_for("fastdp")
            assert next_hop(pair.one, pair.other).via is next_hop(pair.other, pair.one).via is Via.VXLAN
            stream.goes_on()
    assert pair.here.ping(pair.there, count=20).ok
    for host in (pair.one, pair.other):
        switched = [line.split("go by ")[1].split(":")[0] for line in log(host).splitlines() if "go by " in line]
        assert switched[-4:] == ["plait1", "fastdp", "plait1", "fastdp"]


@pytest.mark.timeout(400)
def test_killed_and_launched_again_nodes_lose_nothing(pair: Pair) -> None:
    pair.wait_for("fastdp")
    ids = [conf(host).our_id for host in (pair.one, pair.other)]
    with streaming(pair.here, pair.there) as stream, pinging(pair.here, pair.there) as end:
        for number in range(RESTARTS):
            host = (pair.one, pair.other)[number % 2]
            pair.wait_for("fastdp")  # on a busy machine it may have fallen back, and a pump dies with its node
            kill(host)
            stream.goes_on()
            host.launch(*([pair.one] if host is pair.other else []))
            stream.goes_on()
        for host, other in ((pair.one, pair.other), (pair.other, pair.one)):
            wait_for_neighbours(host, other.name)
        sent, answered = end()
    assert sent - answered == 0, f"{sent - answered} of {sent} lost"
    pair.wait_for("fastdp")
    assert [conf(host).our_id for host in (pair.one, pair.other)] == ids


def test_a_peer_that_is_gone_for_good_is_let_go(pair: Pair) -> None:
    """Last in this module: the other node does not come back."""
    pair.other.plait("stop")

    def held() -> list[float]:
        hops = report(pair.one)["Plait"]["Datapath"]["Hops"]
        return [hop["Held"] for hop in hops if (hop["NickName"], hop["Held"] is None) == ("other", False)]

    def is_announced() -> bool:
        with Map.open_pinned(pins(pair.one) / "announced") as announced:
            return announced.lookup(mac_of(pair.there) + bytes(2)) is not None

    wait_until(lambda: held() != [], "its way is held", PATIENCE)
    assert "without a connection" in pair.one.plait("status", "datapath").stdout
    assert is_announced(), "nothing is flooded meanwhile"
    told = pair.one.plait("trace", "10.32.0.1", "10.32.0.2").stdout
    assert "(other) has it" in told
    assert "kept for a moment from an earlier connection" in told
    assert "delivered: 3 of 3" in told
    wait_until(lambda: next_hop(pair.one, pair.other).via is Via.NOTHING, "its way ends", PATIENCE)
    wait_until(lambda: not is_announced(), "its containers are looked for")
    assert not pair.here.ping(pair.there, count=1).ok


def test_an_encrypted_pair_says_why_the_kernel_carries_nothing(lab: Lab) -> None:
    pair = make_pair(lab, password="secret words")
    for near, far in ((pair.one, pair.other), (pair.other, pair.one)):
        said = wait_for_overlay(near, far, "plait1")
        assert "encrypted" in said["Reason"], said
        assert next_hop(near, far).via is Via.PUMP
    both_ways(pair.here, pair.there, 1_000_000)
    broadcasts_arrive_once(pair.here, pair.there)
    check_logs(lab)


def test_encapsulation_by_the_device(lab: Lab) -> None:
    pair = make_pair(lab, "--fastdp-encapsulation", "device")
    pair.wait_for("fastdp")
    assert HopFlag.DIRECT not in next_hop(pair.one, pair.other).flags
    wait_until(lambda: next_hop(pair.one, pair.other).mtu == 1450, "the path's MTU is found", PATIENCE)
    both_ways(pair.here, pair.there, 5_000_000)
    assert pair.here.ping(pair.there, size=1422, dont_fragment=True).ok
    assert pair.here.ping(pair.there, size=1423, dont_fragment=True).received == 0
    broadcasts_arrive_once(pair.here, pair.there, groups=(BROADCAST, MULTICAST))
    check_logs(lab)


def test_one_host_without_fastdp(lab: Lab) -> None:
    one, other = lab.host("one"), lab.host("other")
    one.launch()
    other.launch(one, extra=["--no-fastdp"])
    here, there = attach(one, one.container("c"), 1), attach(other, other.container("c"), 2)
    wait_until(lambda: here.ping(there, count=1).ok, "frames pass", PATIENCE)
    assert connection(one, other)["Overlay"] == connection(other, one)["Overlay"] == "plait1"
    assert not pins(other).exists()
    assert "fastdp" not in {each["Overlay"] for each in report(other)["Plait"]["Connections"]}
    both_ways(here, there, 1_000_000)
    broadcasts_arrive_once(here, there)
    check_logs(lab)


def test_a_lab_leaves_nothing_pinned() -> None:
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as lab:
        host = lab.host("one")
        host.launch()
        path = pins(host)
        assert path.parent == PINS
        assert (path / "conf").exists()
    assert not path.exists()
