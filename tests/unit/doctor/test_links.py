"""Checks of the overlay's links, and of what Weave left."""

from typing import Any

import pytest

from plait.doctor.finding import Severity
from unit.doctor.made import Made, found

BRIDGE = {"name": "weave", "index": 5, "kind": "bridge", "mac": "f6:12:9a:0c:44:71", "mtu": 1376}
NODE = {"name": "a", "version": "1", "pid": 900}


def vxlan(name: str, port: int = 6784, **more: Any) -> dict[str, Any]:
    return {"name": name, "index": 9, "kind": "vxlan", "vxlan": {"port": port, "external": True}, **more}


@pytest.mark.parametrize(
    ("link", "fires"),
    [
        (vxlan("cilium_vxlan"), True),
        (vxlan("cilium_vxlan", up=False), False),
        (vxlan("flannel.1", 8472), False),
        (vxlan("vethwe-vxlan"), False),
        (vxlan("vxlan-6784"), False),  # see weave-links
    ],
)
def test_who_else_has_the_port_of_vxlan(link: dict[str, Any], fires: bool) -> None:
    assert [each.severity for each in found("vxlan-port", Made(links=[link]))] == [Severity.RISK] * fires
    assert [each.severity for each in found("vxlan-port", Made(links=[link], node=NODE))] == [Severity.BREAKS] * fires


def test_a_udp_server_at_the_port_of_vxlan() -> None:
    socket = {"protocol": "udp", "address": "0.0.0.0", "pid": 7, "process": "iperf3"}
    (result,) = found("vxlan-port", Made(port__6784=[socket]))
    assert result.finding.what.startswith("iperf3 (process 7) ")
    assert not found("vxlan-port", Made(port__6784=[socket | {"pid": None}]))  # the kernel's
    assert not found("vxlan-port", Made(port__6784=[socket | {"protocol": "tcp"}]))  # see ports


@pytest.mark.parametrize(
    ("port", "mode", "fires"),
    [("vethwe-sleeve", 1, True), ("vethwe-bridge", 1, True), ("vethwe-vxlan", 0, False), ("vethwepl4711", 1, False)],
)
def test_hairpin_is_for_containers(port: str, mode: int, fires: bool) -> None:
    path = f"/sys/class/net/weave/brif/{port}/hairpin_mode"
    results = found("hairpin", Made({path: f"{mode}\n"}))
    assert [result.cure for result in results] == [f"echo 0 > {path}"] * fires


@pytest.mark.parametrize(("kind", "fires"), [("0", True), ("1", True), ("3", False), (None, False)])
def test_the_address_of_the_bridge_is_chosen(kind: str | None, fires: bool) -> None:
    files = {} if kind is None else {"/sys/class/net/weave/addr_assign_type": kind}
    assert bool(found("bridge-mac", Made(files, links=[BRIDGE]))) == fires
    assert not found("bridge-mac", Made(files))


@pytest.mark.parametrize(
    ("mtu", "master", "fires"),
    [(1300, "weave", True), (1376, "weave", False), (65535, "weave", False), (1300, "docker0", False)],
)
def test_ports_take_what_the_bridge_does(mtu: int, master: str, fires: bool) -> None:
    port = {"name": "vethwepl1", "index": 12, "kind": "veth", "mtu": mtu, "master": master}
    assert bool(found("port-mtu", Made(links=[BRIDGE, port]))) == fires


@pytest.mark.parametrize(
    ("kind", "word"), [("openvswitch", "weave reset"), ("dummy", "ip link delete"), ("bridge", "")]
)
def test_what_has_the_name_of_the_bridge(kind: str, word: str) -> None:
    results = found("bridge-kind", Made(links=[BRIDGE | {"kind": kind}]))
    assert [word in result.cure for result in results] == [True] * bool(word)
    assert not found("bridge-kind", Made(links=[]))


WEAVER = {"protocol": "tcp", "address": "::", "pid": 22, "process": "weaver"}
RAW = {"/proc/net/raw": "sl local_address\n17: 00000000:0011\n"}


def test_a_weave_router_that_runs() -> None:
    (named,) = found("weave-router", Made(port__6783=[WEAVER]))
    (guessed,) = found("weave-router", Made(RAW))
    assert (named.certainty, guessed.certainty) == ("certain", "likely")
    assert not found("weave-router", Made(port__6783=[WEAVER | {"process": "plait"}]))
    (beside,) = found("weave-router", Made(port__6783=[WEAVER], node=NODE | {"port": 7000}))
    (guessed,) = found("weave-router", Made(RAW, node=NODE))
    assert (beside.certainty, beside.severity, guessed.certainty) == ("certain", Severity.RISK, "possible")


LEFT = [vxlan("vxlan-6784"), {"name": "datapath", "index": 4, "kind": "openvswitch"}]


def test_links_of_a_router_that_is_gone() -> None:
    held, other = found("weave-links", Made(links=LEFT))
    assert (held.severity, other.severity) == (Severity.RISK, Severity.NOTE)
    assert (held.cure, other.cure) == ("ip link delete vxlan-6784", "ovs-dpctl del-dp datapath")
    assert not found("weave-links", Made(links=LEFT, port__6783=[WEAVER]))
    assert not found("weave-links", Made(links=[BRIDGE]))


@pytest.mark.parametrize(("chain", "severity"), [("WEAVE-EXPOSE", Severity.NOTE), ("WEAVE-NPC", Severity.RISK)])
def test_rules_of_a_router_that_is_gone(chain: str, severity: Severity) -> None:
    nft = [{"chain": {"family": "ip", "table": "filter", "name": chain}}]
    legacy = f"*filter\n:INPUT ACCEPT [0:0]\n:{chain} - [0:0]\nCOMMIT\n"
    for machine, program in ((Made(nft=nft), "iptables"), (Made(iptables_legacy=legacy), "iptables-legacy")):
        (result,) = found("weave-rules", machine)
        assert (result.severity, result.finding.subject) == (severity, program)
        assert result.cure == f"{program}-save | grep -v WEAVE | {program}-restore"
    assert not found("weave-rules", Made(nft=nft, iptables_legacy=legacy, port__6783=[WEAVER]))
    assert not found("weave-rules", Made(nft=[{"chain": {"family": "ip", "table": "filter", "name": "DOCKER"}}]))


def test_the_database_is_imported_before_the_first_launch_and_removed_after() -> None:
    docker = {"version": "28.2.2", "weave": ["weavedb"]}
    (before,) = found("weave-data", Made(docker=docker))
    (after,) = found("weave-data", Made(docker=docker, node=NODE))
    assert "plait ipam import" in before.cure
    assert after.cure.endswith("docker rm -v weavedb")
    (file,) = found("weave-data", Made({"/var/lib/weave/weave-netdata.db": ""}))
    assert file.finding.subject == "/var/lib/weave/weave-netdata.db"
    assert not found("weave-data", Made({"/var/lib/weave/other": ""}, docker=docker | {"weave": []}))
