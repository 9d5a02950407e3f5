"""Checks of offloads: where they fire, and where the same machine is well."""

from typing import Any

import pytest

from plait.doctor.finding import Certainty, Severity
from unit.doctor.made import Made, found

ROUTES = [{"destination": "0.0.0.0/0", "device": "eth0"}]
ETH0 = {"name": "eth0", "index": 2}
BRIDGE = {"name": "weave", "index": 5, "kind": "bridge"}
PCAP = {"name": "vethwe-pcap", "index": 8, "kind": "veth"}
PACKET = "sk RefCnt Type Proto Iface R Rmem User Inode\n0 3 3 0003 {} 1 0 0 31337\n"
RAW = "sl local_address rem_address st\n17: 00000000:00{} 00000000:0000 07\n"
BOTH = {"tx-checksum-ip-generic": True, "tx-tcp-segmentation": True}


def guest(release: str, is_on: bool = True, raw: str = "01", **answers: Any) -> Made:
    """A KVM guest; `raw`: the protocol of a raw socket, in hexadecimal."""
    return Made(
        {"/proc/sys/kernel/osrelease": release, "/proc/net/raw": RAW.format(raw)},
        links=[ETH0],
        routes=ROUTES,
        ethtool__eth0={"driver": "virtio_net", "features": {"tx-udp-fragmentation": is_on}},
        **answers,
    )


@pytest.mark.parametrize(
    ("release", "certainty"),
    [
        ("3.10.0-123.el7.x86_64", Certainty.CERTAIN),
        ("3.10.0-149.el7.x86_64", Certainty.CERTAIN),
        ("3.10.0-150.el7.x86_64", Certainty.LIKELY),
        ("3.12.9-generic", Certainty.CERTAIN),
        ("3.13.0-24-generic", Certainty.LIKELY),
        ("4.13.9", Certainty.LIKELY),
        ("4.14.0", None),
        ("6.1.0-21-amd64", None),
    ],
)
def test_which_kernels_have_the_ufo_trap(release: str, certainty: Certainty | None) -> None:
    assert [result.certainty for result in found("ufo", guest(release))] == ([certainty] if certainty else [])


def test_the_ufo_trap_is_shut_without_the_offload_and_snaps_with_a_raw_socket() -> None:
    assert not found("ufo", guest("3.10.0-123.el7.x86_64", is_on=False))
    (risk,) = found("ufo", guest("3.10.0-123.el7.x86_64"))
    (breaks,) = found("ufo", guest("3.10.0-123.el7.x86_64", raw="11"))
    assert (risk.severity, breaks.severity) == (Severity.RISK, Severity.BREAKS)
    assert breaks.cure == "ethtool -K eth0 ufo off"


def test_weave_peers_are_named_where_the_ufo_trap_is() -> None:
    node = {"name": "a", "version": "1", "peers": [{"name": "b", "nickname": "db1", "weave": True}, {"name": "c"}]}
    (result,) = found("ufo", guest("3.10.0-123.el7.x86_64", node=node))
    assert result.finding.what.endswith("look at db1")


def test_tunnel_offload_is_for_the_iana_port() -> None:
    features = {"driver": "vmxnet3", "features": {"tx-udp_tnl-segmentation": True}}
    where: dict[str, Any] = {"links": [ETH0], "routes": ROUTES, "ethtool__eth0": features}
    assert found("tunnel-offload", Made(**where))
    assert not found("tunnel-offload", Made(**where, node={"name": "a", "version": "1", "port": 4788}))
    assert not found("tunnel-offload", Made(**(where | {"ethtool__eth0": features | {"driver": "ixgbe"}})))


def test_lro_of_the_underlay() -> None:
    for is_on in (True, False):
        machine = Made(links=[ETH0], routes=ROUTES, ethtool__eth0={"features": {"rx-lro": is_on}})
        assert bool(found("lro", machine)) == is_on


@pytest.mark.parametrize("name", ["capture-checksum", "super-frames"])
def test_offloads_before_a_weave_router_that_captures(name: str) -> None:
    """Only where it does: at its port, by a packet socket, and the bridge leaves work to the device."""
    where: dict[str, Any] = {"links": [BRIDGE, PCAP], "ethtool__weave": {"features": BOTH}}
    (result,) = found(name, Made({"/proc/net/packet": PACKET.format(8)}, **where))
    assert result.finding.subject == "weave"
    assert result.finding.fix is not None
    assert not found(name, Made({"/proc/net/packet": PACKET.format(2)}, **where))
    assert not found(name, Made({"/proc/net/packet": PACKET.format(8)}, **(where | {"links": [BRIDGE]})))
    off = where | {"ethtool__weave": {"features": dict.fromkeys(BOTH, False)}}
    assert not found(name, Made({"/proc/net/packet": PACKET.format(8)}, **off))


def test_containers_that_plait_attached_before_weave_came_back() -> None:
    files = {"/proc/net/packet": PACKET.format(8), "/var/lib/plait/plait.db": ""}
    (result,) = found("capture-checksum", Made(files, links=[BRIDGE, PCAP]))
    assert (result.finding.subject, result.certainty) == ("containers", Certainty.POSSIBLE)


@pytest.mark.parametrize(("wrong", "received", "fires"), [(19, 100, False), (99, 10**6, False), (101, 10**6, True)])
def test_segments_with_wrong_checksums(wrong: int, received: int, fires: bool) -> None:
    text = f"Tcp: InSegs InCsumErrors\nTcp: {received} {wrong}\nUdp: InErrors\nUdp: 7\n"
    assert bool(found("checksum-errors", Made({"/proc/net/snmp": text}))) == fires
