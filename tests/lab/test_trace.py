"""`plait trace` and `status datapath` in a chain of three hosts whose ends reach each other by the middle alone."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from lab.node_lab import check_logs, report
from plait.host.netlink import Netlink
from plait.testing.lab import Lab, wait_until
from plait.testing.lab.hosts import Container, Host

VXLAN_PORT = 6784


@dataclass(frozen=True)
class Chain:
    """Hosts and a container on each; the first host has another one."""

    lab: Lab
    hosts: list[Host]
    containers: list[Container]
    neighbour: Container

    def trace(self, *words: str) -> tuple[int, dict[str, Any]]:
        """Trace from the first host; gives the exit code and the answer."""
        ended = self.hosts[0].plait("trace", "--json", *words, check=False)
        return ended.status, json.loads(ended.stdout)


@contextmanager
def chain(overlay: str, *flags: str, is_blocked: bool = False) -> Iterator[Chain]:
    """A chain that runs, with this overlay on all connections; `is_blocked`: VXLAN does not pass."""
    with Lab() as lab:
        left, right = lab.switch(), lab.switch()
        one, two, three = hosts = [lab.host("one", [left]), lab.host("two", [left, right]), lab.host("three", [right])]
        if is_blocked:
            lab.cut(one, two, udp=[VXLAN_PORT])
            lab.cut(two, three, udp=[VXLAN_PORT])
        two.launch(extra=flags)
        one.launch(str(two.ports[0].address.ip), extra=flags)
        three.launch(str(two.ports[1].address.ip), extra=flags)
        containers = [host.container(f"c{number}") for number, host in enumerate(hosts, start=1)]
        for number, (host, container) in enumerate(zip(hosts, containers, strict=True), start=1):
            host.attach(container, f"10.32.0.{number}/24", f"fd00::{number}/64")
        neighbour = one.container("c9")
        one.attach(neighbour, "10.32.0.9/24")
        wait_until(lambda: overlays(two) == [overlay, overlay], f"the connections use {overlay}", 30)
        wait_until(lambda: containers[0].ping(containers[2], count=1).received == 1, "the ends reach each other", 30)
        yield Chain(lab, hosts, containers, neighbour)
        check_logs(lab)


def overlays(host: Host) -> list[str]:
    return [each["Overlay"] for each in report(host)["Plait"]["Connections"] if each["EstablishedSince"] is not None]


def kinds(found: dict[str, Any]) -> list[str]:
    return [hop["kind"] for hop in found["hops"]]


def link(found: dict[str, Any]) -> dict[str, Any]:
    (hop,) = (hop for hop in found["hops"] if hop["kind"] == "link")
    return dict(hop)


def check_relayed(code: int, found: dict[str, Any]) -> None:
    """The last container answered, and each frame was counted on the connection with the middle."""
    assert (code, found["delivered"], found["answered"]) == (0, True, 3), found
    assert kinds(found) == ["container", "port", "decision", "link", "relay", "delivery"]
    assert link(found)["sent"] >= 3
    assert link(found)["received"] >= 3
    relay, delivery = found["hops"][4:]
    assert (relay["computed"], relay["source"], relay["destination"]) == (True, "10.99.1.1", "10.99.1.2")
    assert "(three)" in delivery["place"]


@pytest.fixture(scope="module")
def fast() -> Iterator[Chain]:
    with chain("fastdp") as found:
        if not report(found.hosts[0])["Plait"]["Datapath"]["Carries"]:
            pytest.skip("this kernel carries no frames")
        yield found


def test_the_kernels_way_is_shown_with_its_encapsulation(fast: Chain) -> None:
    code, found = fast.trace(fast.containers[0].spec, "10.32.0.3")
    check_relayed(code, found)
    way = link(found)
    assert (way["overlay"], way["device"], way["mtu"]) == ("fastdp", "eth0", 1450)
    assert (way["source"], way["destination"]) == ("10.99.0.1:*", f"10.99.0.2:{VXLAN_PORT}")
    ids = {peer["NickName"]: peer["ShortID"] for peer in report(fast.hosts[0])["Router"]["Peers"]}
    assert way["vni"] == ids["one"] | ids["three"] << 12


def test_neighbour_discovery_asks_for_an_ipv6_address(fast: Chain) -> None:
    wait_until(lambda: fast.trace(fast.containers[0].spec, "fd00::3")[0] == 0, "IPv6 addresses can be used")
    check_relayed(*fast.trace("fd00::1", "fd00::3"))


def test_a_mac_address_that_the_container_knows_is_asked_by_its_ip_address(fast: Chain) -> None:
    assert fast.containers[0].ping(fast.containers[2], count=1).received == 1
    with Netlink(fast.containers[2].path) as netlink:
        ethwe = netlink.link("ethwe")
    assert ethwe is not None
    check_relayed(*fast.trace("10.32.0.1", ethwe.mac))


def test_a_container_of_the_same_host_gets_it_from_the_bridge(fast: Chain) -> None:
    code, found = fast.trace("10.32.0.1", "10.32.0.9")
    assert (code, kinds(found)) == (0, ["container", "port", "decision", "delivery"])
    assert fast.neighbour.spec in found["hops"][-1]["text"]


def test_nobody_answers_for_an_address_that_nobody_has(fast: Chain) -> None:
    code, found = fast.trace("10.32.0.1", "10.32.0.77")
    assert (code, found["delivered"], found["asked"], found["answered"]) == (12, False, 3, 0)
    assert found["hops"][-1]["lost"] == found["verdict"]
    # The questions went to all: the neighbour got a copy of each.
    assert [each["sent"] >= 3 for each in found["counted"] if "(two)" in each["peer"]] == [True]


def test_a_container_that_takes_nothing_any_more_is_suspected(fast: Chain) -> None:
    assert fast.trace("10.32.0.1", "10.32.0.2")[0] == 0
    assert fast.containers[0].ping(fast.containers[1], count=1).received == 1
    # An interface that is down would be set up again by the node.
    fast.containers[1].run(["ip", "link", "set", "ethwe", "arp", "off"])
    try:
        code, found = fast.trace("10.32.0.1", "10.32.0.2")
        assert (code, found["answered"]) == (12, 0)
        assert [hop["kind"] for hop in found["hops"] if hop["lost"]] == ["delivery"], found
        assert link(found)["sent"] >= 3
    finally:
        fast.containers[1].run(["ip", "link", "set", "ethwe", "arp", "on"])


def test_words_that_cannot_be_traced_are_explained(fast: Chain) -> None:
    for words, code, part in (
        (("10.32.0.1", "192.0.2.1"), 1, "is not on the link of 10.32.0.1"),
        (("10.32.0.1", "there"), 1, "neither an IP address nor a MAC address"),
        (("10.32.0.1", "10.32.0.1"), 1, "own address"),
        (("10.32.0.3", "10.32.0.1"), 4, "has no interface on the network of this host"),
    ):
        ended = fast.hosts[0].plait("trace", *words, check=False)
        assert (ended.status, ended.stdout) == (code, "")
        assert part in ended.stderr


def test_status_shows_the_datapath(fast: Chain) -> None:
    text = fast.hosts[0].plait("status", "datapath").stdout
    assert text.startswith("carries frames: ")
    shown = json.loads(fast.hosts[0].plait("status", "--json", "datapath").stdout)
    assert {each["Name"] for each in shown["Programs"]} == {
        *("from_container", "from_underlay", "from_vxlan", "to_vxlan", "from_tap", "to_tap")
    }
    hops = {each["NickName"]: each for each in shown["Hops"]}
    assert (hops["three"]["Via"], hops["three"]["HopNickName"], hops["two"]["Direct"]) == ("vxlan", "two", True)
    (counted,) = (each for each in shown["Neighbours"] if each["NickName"] == "two")
    assert counted["TxPackets"] > 0
    assert counted["RxBytes"] > 0
    learned = {mac["Mac"]: mac["NickName"] for mac in report(fast.hosts[0])["Router"]["MACs"]}
    with Netlink(fast.containers[2].path) as netlink:
        ethwe = netlink.link("ethwe")
    assert ethwe is not None
    assert learned[ethwe.mac] == "three"


def test_the_pumps_way_is_shown_without_fastdp() -> None:
    with chain("plait1", "--no-fastdp") as found:
        code, traced = found.trace(found.containers[0].spec, "10.32.0.3")
        check_relayed(code, traced)
        way = link(traced)
        assert (way["overlay"], way["vni"], way["destination"]) == ("plait1", None, "10.99.0.2:6783")
        text = found.hosts[0].plait("status", "datapath").stdout
        assert text.startswith("carries no frames: fastdp is not among the overlays")


def test_a_blocked_vxlan_port_is_seen_in_the_decision() -> None:
    with chain("plait1", is_blocked=True) as found:
        code, traced = found.trace("10.32.0.1", "10.32.0.3")
        check_relayed(code, traced)
        assert (link(traced)["overlay"], link(traced)["destination"]) == ("plait1", "10.99.0.2:6783")
        assert "fastdp" in traced["hops"][2]["text"]  # why it is not used
        found.lab.cut(found.hosts[0], found.hosts[1])
        code, traced = found.trace("10.32.0.1", "10.32.0.3")
        assert (code, traced["answered"]) == (12, 0)
        assert [hop["lost"] for hop in traced["hops"] if hop["lost"]] == [traced["verdict"]]
