"""Connection tracking, NAT, and who places rules: each check fires where it should, and not where it should not."""

import pytest

from plait.doctor.finding import Certainty, Severity
from plait.doctor.fix import Setting
from unit.doctor.firewalls import UPLINK, host
from unit.doctor.made import Made, found

STAT = "/proc/net/stat/nf_conntrack"
COUNT, MOST = (f"/proc/sys/net/netfilter/nf_conntrack_{name}" for name in ("count", "max"))
VXLAN = {"name": "flannel.1", "index": 9, "kind": "vxlan", "vxlan": {"port": 8472, "vni": 1}}
MASQUERADES_ALL = "kube.iptables-legacy.txt"
MASQUERADES_DOCKER = "docker-legacy.iptables-legacy.txt"
SNMP = "Udp: InDatagrams InCsumErrors\nUdp: 7 5\n"


def failed(*numbers: int) -> dict[str, str]:
    rows = [f"00000010 {number:08x} 00000000" for number in numbers]
    return {STAT: "\n".join(["entries insert_failed drop", *rows, ""])}


def test_vxlan_that_nat_touches() -> None:
    machine = host(MASQUERADES_ALL, files={"/proc/net/snmp": SNMP}, release="4.19.122", more_links=[VXLAN])
    (result,) = found("vxlan-checksum", machine)
    assert result.finding.subject == "flannel.1"
    assert "UDP 8472" in result.finding.what
    assert "checksum: 5" in result.finding.what
    assert result.cure.startswith("ethtool -K flannel.1 tx-checksum-ip-generic off")


@pytest.mark.parametrize("release", ["4.19.123", "5.4.41", "5.6.13", "5.7.0", "6.1.0"])
def test_vxlan_on_a_mended_kernel(release: str) -> None:
    assert found("vxlan-checksum", host(MASQUERADES_ALL, release=release, more_links=[VXLAN])) == []


def test_vxlan_that_no_rule_of_nat_fits() -> None:
    """Docker's rule is for its own addresses, which this host does not send VXLAN from."""
    assert found("vxlan-checksum", host(MASQUERADES_DOCKER, release="4.19.1", more_links=[VXLAN])) == []
    assert found("vxlan-checksum", host(MASQUERADES_ALL, release="4.19.1")) == []


def test_ports_that_nat_gives_twice() -> None:
    (result,) = found("nat-race", host(MASQUERADES_DOCKER, files=failed(0x10, 2)))
    assert "18 new connections" in result.finding.what
    assert result.cure == (
        "iptables-legacy -t nat -I POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE --random-fully"
    )
    assert result.certainty is Certainty.LIKELY


def test_nat_that_nft_does_not_show() -> None:
    (result,) = found("nat-race", host("docker-nft.nft.json", files=failed(1)))
    assert result.certainty is Certainty.POSSIBLE
    (result,) = found("nat-race", host("docker-nft.nft.json", "docker-nft.iptables-nft.txt", files=failed(1)))
    assert result.certainty is Certainty.LIKELY
    assert result.cure.startswith("iptables-nft -t nat -I POSTROUTING")


@pytest.mark.parametrize(
    "machine", [host(MASQUERADES_DOCKER, files=failed(0, 0)), host(MASQUERADES_DOCKER), host(files=failed(7))]
)
def test_nat_without_lost_connections(machine: Made) -> None:
    assert found("nat-race", machine) == []


def test_questions_for_names_through_nat() -> None:
    (old,) = found("dns-race", host(MASQUERADES_ALL, release="4.15.0"))
    assert (old.severity, old.certainty) == (Severity.RISK, Certainty.POSSIBLE)
    (new,) = found("dns-race", host(MASQUERADES_ALL, files=failed(3), release="6.1.0"))
    assert new.severity is Severity.NOTE
    assert found("dns-race", host(MASQUERADES_ALL, release="6.1.0")) == []
    assert found("dns-race", host(MASQUERADES_DOCKER, release="4.15.0")) == []


@pytest.mark.parametrize(("program", "firewall"), [("firewalld", "firewalld.nft.json"), ("ufw", "ufw-nft.nft.json")])
def test_who_keeps_the_firewall(program: str, firewall: str) -> None:
    (result,) = found("firewall-reload", host(firewall))
    assert (result.finding.subject, result.severity) == (program, Severity.NOTE)
    assert found("firewall-reload", host(MASQUERADES_DOCKER)) == []
    before_nftables = (
        "*filter\n:INPUT ACCEPT [0:0]\n:INPUT_ZONES - [0:0]\n-A INPUT -j INPUT_ZONES\nCOMMIT\n"  # CentOS 7
    )
    assert [each.finding.subject for each in found("firewall-reload", host(iptables_legacy=before_nftables))] == [
        "firewalld"
    ]


def test_two_backends() -> None:
    (result,) = found("mixed-backends", host("mixed.iptables-legacy.txt", "mixed.nft.json"))
    assert "iptables-legacy (tables nat, filter) and of nftables (tables ip filter)" in result.finding.what
    assert found("mixed-backends", host("mixed.nft.json")) == []
    assert found("mixed-backends", host("mixed.iptables-legacy.txt")) == []


def test_rules_of_plait_are_no_second_backend() -> None:
    table = {
        "family": "ip",
        "table": "plait_expose",
        "chain": "postrouting",
        "handle": 1,
        "expr": [{"masquerade": None}],
    }
    nft = [
        {
            "chain": {
                "family": "ip",
                "table": "plait_expose",
                "name": "postrouting",
                "hook": "postrouting",
                "type": "nat",
            }
        },
        {"rule": table},
        {"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": "forward", "type": "filter"}},
        {"rule": {**table, "table": "filter", "chain": "FORWARD", "comment": "plait: from containers"}},
    ]
    assert found("mixed-backends", host("mixed.iptables-legacy.txt", nft=nft)) == []


@pytest.mark.parametrize(
    ("count", "severity"), [(262144, Severity.BREAKS), (250000, Severity.BREAKS), (220000, Severity.RISK), (9, None)]
)
def test_table_of_connections(count: int, severity: Severity | None) -> None:
    results = found("conntrack-full", Made({COUNT: f"{count}\n", MOST: "262144\n"}))
    assert [result.severity for result in results] == ([severity] if severity else [])
    for result in results:
        assert result.finding.fix == Setting(MOST, "524288")
        assert result.cure == "sysctl -w net.netfilter.nf_conntrack_max=524288"


@pytest.mark.parametrize("machine", [Made(), Made({COUNT: "7"}), Made({COUNT: "x", MOST: "0"})])
def test_no_table_of_connections(machine: Made) -> None:
    assert found("conntrack-full", machine) == []


def test_flows_that_are_forgotten() -> None:
    path = "/proc/sys/net/netfilter/nf_conntrack_udp_timeout"
    (result,) = found("udp-timeout", Made({path: "10\n"}))
    assert result.finding.fix == Setting(path, "30")
    assert found("udp-timeout", Made({path: "30\n"})) == []
    assert found("udp-timeout", Made(links=[UPLINK])) == []


@pytest.mark.parametrize("text", ["", "entries\n", "entries insert_failed\nzz zz\n", "insert_failed\n1 2 3\n"])
def test_strange_counters_count_nothing(text: str) -> None:
    assert found("nat-race", host(MASQUERADES_DOCKER, files={STAT: text})) == []
