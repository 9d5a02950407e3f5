"""Ways to other hosts: each check fires where it should, and not where it should not."""

from typing import Any

import pytest

from plait.doctor.check import Result
from plait.doctor.finding import Certainty, Severity
from plait.doctor.fix import Setting
from plait.overlay.fastdp.health import Illness
from plait.overlay.pmtu import ACKNOWLEDGED, BLACK_HOLE
from unit.doctor.firewalls import BRIDGE, DEFAULT, UPLINK, host, node
from unit.doctor.made import Made, found

TWO_WAYS: dict[str, Any] = {
    "links": [UPLINK, {"name": "eth1", "index": 5, "mtu": 1500}],
    "routes": [*DEFAULT, {"destination": "10.7.0.0/24", "device": "eth1"}],
    "node": node({}, {"remote": "10.7.0.9:6783"}),
}
CONF = "/proc/sys/net/ipv4/conf"
STRICT = {f"{CONF}/all/rp_filter": "1\n", f"{CONF}/eth0/rp_filter": "0\n", f"{CONF}/eth1/rp_filter": "2\n"}
NETSTAT = {"/proc/net/netstat": "TcpExt: A IPReversePathFilter\nTcpExt: 1 77\nIpExt: B\nIpExt: 2\n"}


def with_peer(**peer: Any) -> Made:
    return host(node=node(peer), more_links=[BRIDGE])


def one(name: str, machine: Made) -> Result:
    (result,) = found(name, machine)
    return result


def test_strict_filtering_on_one_of_two_ways() -> None:
    result = one("rp-filter", Made({**STRICT, **NETSTAT}, **TWO_WAYS))
    assert result.finding.subject == "eth0"
    assert result.certainty is Certainty.LIKELY
    assert "77" in result.finding.what
    assert result.finding.fix == Setting(f"{CONF}/eth0/rp_filter", "2")
    assert one("rp-filter", Made(STRICT, **TWO_WAYS)).certainty is Certainty.POSSIBLE


def test_filtering_that_does_no_harm() -> None:
    assert found("rp-filter", host(files=STRICT)) == []
    assert found("rp-filter", Made({f"{CONF}/all/rp_filter": "2", f"{CONF}/eth0/rp_filter": "1"}, **TWO_WAYS)) == []
    assert found("rp-filter", Made({f"{CONF}/all/rp_filter": "0"}, **TWO_WAYS)) == []


def test_a_path_narrower_than_the_interface() -> None:
    result = one("mtu-black-hole", with_peer(mtu=1350, path_mtu=1400, mtu_source=ACKNOWLEDGED))
    assert result.severity is Severity.NOTE
    assert "1400 bytes" in result.finding.what
    assert result.cure.startswith("plait launch --mtu 1350 ")


def test_a_black_hole() -> None:
    result = one("mtu-black-hole", with_peer(mtu=1150, path_mtu=1200, mtu_source=BLACK_HOLE))
    assert (result.severity, result.certainty) == (Severity.BREAKS, Certainty.LIKELY)


@pytest.mark.parametrize(
    "peer",
    [
        {"mtu": 1376, "path_mtu": 1426, "mtu_source": ACKNOWLEDGED},  # as much as containers send is all that is tried
        {"mtu": 1350, "path_mtu": 1500},  # the peer's containers take less
        {"mtu": 1150, "path_mtu": 1200, "state": "pending"},  # nothing is known yet
        {},
    ],
)
def test_a_path_that_is_wide_enough(peer: dict[str, Any]) -> None:
    assert found("mtu-black-hole", with_peer(**peer)) == []


@pytest.mark.parametrize(("mtu", "fires"), [(1425, True), (1426, False), (1500, False)])
def test_packets_that_do_not_fit_vxlan(mtu: int, fires: bool) -> None:
    vxlan = {"name": "vxlan-6784", "index": 9, "kind": "vxlan", "vxlan": {"port": 6784}}
    links = [{**UPLINK, "mtu": mtu}, BRIDGE, vxlan]
    assert bool(found("overlay-mtu", Made(links=links, routes=DEFAULT))) == fires
    towards_weave = Made(links=links, routes=DEFAULT, node=node({"weave": True}))
    assert [result.severity for result in found("overlay-mtu", towards_weave)] == [Severity.BREAKS] * fires
    assert found("overlay-mtu", Made(links=links, routes=DEFAULT, node=node(encrypted=True))) == []
    assert found("overlay-mtu", Made(links=links[:2], routes=DEFAULT)) == []  # nothing uses VXLAN


def test_tcp_without_udp() -> None:
    result = one("udp-blocked", with_peer(state="pending", reason="nothing works yet: sleeve is not established yet"))
    assert result.finding.subject == "h2 (192.168.5.3:6783)"
    assert "let UDP 6783 and 6784 pass between this host and 192.168.5.3" in result.cure
    assert found("udp-blocked", with_peer()) == []
    assert found("udp-blocked", with_peer(name="", state="pending")) == []


@pytest.mark.parametrize(("illness", "certainty"), [(Illness.DEAF, "certain"), (Illness.SILENT, "likely")])
def test_vxlan_one_way(illness: Illness, certainty: str) -> None:
    reason = f"plait1 is used because fastdp is unhealthy: {illness.value} for 2.5 s"
    assert one("one-way", with_peer(overlay="plait1", reason=reason)).certainty == certainty
    assert found("one-way", with_peer(overlay="fastdp", reason="fastdp is the first choice")) == []


def test_flows_of_a_weave_router() -> None:
    reason = "sleeve is used because fastdp is unhealthy: nothing comes from the peer for 60 s"
    assert one("stale-flows", with_peer(overlay="sleeve", reason=reason, weave=True)).severity is Severity.NOTE
    assert found("stale-flows", with_peer(overlay="plait1", reason=reason)) == []
    assert found("stale-flows", with_peer(overlay="sleeve", reason="sleeve is the first choice", weave=True)) == []


def test_forwarding() -> None:
    off, on = {"/proc/sys/net/ipv4/ip_forward": "0\n"}, {"/proc/sys/net/ipv4/ip_forward": "1\n"}
    exposed = node(exposed=["10.32.0.1/12"])
    result = one("forwarding", host(files=off, node=exposed))
    assert result.cure == "sysctl -w net.ipv4.ip_forward=1"
    assert found("forwarding", host(files=on, node=exposed)) == []
    assert found("forwarding", host(files=off, node=node())) == []
    assert found("forwarding", host(files=off)) == []
    result = one("forwarding", host(files={**on, f"{CONF}/weave/forwarding": "0"}, node=exposed))
    assert result.finding.fix == Setting(f"{CONF}/weave/forwarding", "1")


def arp(entries: int, fulls: int = 0) -> Made:
    head = "IP address       HW type     Flags       HW address            Mask     Device"
    rows = [f"10.0.0.{n}        0x1         0x2         02:00:00:00:00:01     *        eth0" for n in range(entries)]
    files = {
        "/proc/net/arp": "\n".join([head, *rows, ""]),
        "/proc/sys/net/ipv4/neigh/default/gc_thresh3": "100\n",
        "/proc/net/stat/arp_cache": f"entries  allocs table_fulls\n00000001 00000002 {fulls:08x}\n",
    }
    return Made(files)


def test_neighbours() -> None:
    assert one("neighbour-table", arp(95)).severity is Severity.BREAKS
    before = one("neighbour-table", arp(5, fulls=18))
    assert before.severity is Severity.RISK
    assert "18 times" in before.finding.what
    assert "gc_thresh3=400" in before.cure
    assert found("neighbour-table", arp(5)) == []
    assert found("neighbour-table", Made()) == []


def test_datagrams_that_nobody_read() -> None:
    head = "sl local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref ptr drops"
    rest = "00000000:00000000 00:00000000 00000000     0        0 25 2 0000000000000000"
    table = f"""{head}
  101: 00000000:1A7F 00000000:0000 07 {rest} {{}}
  102: 00000000:1A7F 0305A8C0:1A7F 01 {rest} 4
  103: 00000000:0035 00000000:0000 07 {rest} 99
"""
    result = one("receive-buffer", Made({"/proc/net/udp": table.format(3)}))
    assert result.finding.what.startswith("7 datagrams for UDP 6783")
    assert found("receive-buffer", Made({"/proc/net/udp": table.format(0).replace(" 4\n", " 0\n")})) == []
    assert found("receive-buffer", Made()) == []
