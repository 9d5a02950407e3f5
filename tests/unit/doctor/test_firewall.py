"""Firewalls that drop what the overlay needs, as real tools print them."""

from typing import Any

from plait.doctor.check import Result
from plait.doctor.finding import Certainty, Severity
from unit.doctor.firewalls import BRIDGE, host, node
from unit.doctor.made import Made, found

BRIDGE_CALLS = {"/proc/sys/net/bridge/bridge-nf-call-iptables": "1\n"}
DOCKER0 = {"name": "docker0", "index": 4, "kind": "bridge"}
CENTOS = "centos.iptables-legacy.txt"
DOCKER_LEGACY = "docker-legacy.iptables-legacy.txt"
DOCKER_NFT = "docker-nft.nft.json"
FIREWALLD = "firewalld.nft.json"
CONNTRACK = {"/proc/sys/net/netfilter/nf_conntrack_count": "7\n"}


def subjects(results: list[Result]) -> list[str]:
    return [result.finding.subject for result in results]


def legacy(*lines: str, **more: Any) -> Made:
    return host(iptables_legacy="\n".join(["*filter", *lines, "COMMIT", ""]), **more)


def test_firewalld_that_knows_no_overlay() -> None:
    results = found("filtered-ports", host(FIREWALLD))
    assert sorted(subjects(results)) == ["TCP 6783", "UDP 6783", "UDP 6784"]
    by_subject = {result.finding.subject: result for result in results}
    kernel = by_subject["UDP 6784"]
    assert (kernel.severity, kernel.certainty) == (Severity.BREAKS, Certainty.CERTAIN)
    assert "filter_IN_public" in kernel.finding.what
    assert kernel.cure == "firewall-cmd --permanent --add-port=6784/udp && firewall-cmd --reload"
    assert kernel.lasting == "over reboots"
    assert kernel.finding.fix is None
    assert by_subject["TCP 6783"].severity is Severity.RISK  # this host can call its peers


def test_ufw_that_knows_no_overlay() -> None:
    results = found("filtered-ports", host("ufw-nft.nft.json", "ufw-nft.iptables-nft.txt"))
    assert sorted(result.cure for result in results) == [
        "ufw allow 6783/tcp",
        "ufw allow 6783/udp",
        "ufw allow 6784/udp",
    ]
    assert all(result.certainty is Certainty.CERTAIN for result in results)
    results = found("filtered-ports", host("ufw-nft.nft.json"))  # without iptables-nft-save, nft hides its conditions
    assert {(result.severity, result.certainty) for result in results} == {(Severity.NOTE, Certainty.POSSIBLE)}


def test_ports_that_are_open() -> None:
    for firewall in (CENTOS, DOCKER_LEGACY, DOCKER_NFT):
        assert found("filtered-ports", host(firewall)) == []
    assert found("filtered-ports", host()) == []


def test_ports_that_are_open_to_some() -> None:
    """By the peers that are known: 192.168.5.3 may connect, 10.9.9.9 may not."""
    lines = (":INPUT DROP [0:0]", "-A INPUT -s 192.168.5.0/24 -j ACCEPT")
    assert found("filtered-ports", legacy(*lines, node=node({}))) == []
    results = found("filtered-ports", legacy(*lines, node=node({}, {"remote": "10.9.9.9:6783"})))
    assert sorted(subjects(results)) == ["TCP 6783", "UDP 6783", "UDP 6784"]
    assert {result.certainty for result in found("filtered-ports", legacy(*lines))} == {Certainty.POSSIBLE}


def test_the_rule_that_opens_a_port() -> None:
    results = found("filtered-ports", legacy(":INPUT ACCEPT [0:0]", "-A INPUT -p udp -m udp --dport 6784 -j DROP"))
    assert [result.cure for result in results] == ["iptables-legacy -t filter -I INPUT -p udp --dport 6784 -j ACCEPT"]
    nft = [
        {"chain": {"family": "inet", "table": "f", "name": "in", "hook": "input", "type": "filter", "policy": "drop"}},
    ]
    results = found("filtered-ports", host(nft=nft))
    assert "nft 'insert rule inet f in udp dport 6784 counter accept'" in [result.cure for result in results]


def test_another_port_of_the_node() -> None:
    machine = host(CENTOS, node=node(port=7000))
    assert sorted(subjects(found("filtered-ports", machine))) == ["TCP 7000", "UDP 7000", "UDP 7001"]


def test_questions_for_names() -> None:
    results = found("dns-port", host(CENTOS, more_links=[DOCKER0], release="3.10.0-1160.el7.x86_64"))
    assert subjects(results) == ["UDP 53 on docker0", "TCP 53 on docker0"]
    assert results[0].cure == "iptables -t filter -I INPUT -i docker0 -p udp --dport 53 -j ACCEPT"
    assert found("dns-port", host(CENTOS)) == []
    assert found("dns-port", host(DOCKER_NFT, more_links=[DOCKER0])) == []
    before_launch = host("ufw-nft.nft.json", "ufw-nft.iptables-nft.txt", more_links=[DOCKER0])
    assert found("dns-port", before_launch) == []  # plait will place its rule there
    (udp, tcp) = found("dns-port", host("ufw-legacy.iptables-legacy.txt", more_links=[DOCKER0]))
    assert (udp.cure, tcp.cure) == (
        "ufw allow in on docker0 to any port 53 proto udp",
        "ufw allow in on docker0 to any port 53 proto tcp",
    )


def test_bridged_frames_that_iptables_drops() -> None:
    (result,) = found("bridge-filter", host(CENTOS, files=BRIDGE_CALLS, more_links=[BRIDGE]))
    assert (result.finding.subject, result.severity) == ("weave", Severity.BREAKS)
    assert result.cure == "iptables-legacy -t filter -I FORWARD -i weave -j ACCEPT"
    (result,) = found("bridge-filter", host(CENTOS, files=BRIDGE_CALLS))
    assert result.severity is Severity.RISK


def test_bridged_frames_that_pass() -> None:
    assert found("bridge-filter", host(CENTOS, more_links=[BRIDGE])) == []
    assert found("bridge-filter", host(files=BRIDGE_CALLS, more_links=[BRIDGE])) == []
    before_launch = host(DOCKER_NFT, files=BRIDGE_CALLS)
    assert found("bridge-filter", before_launch) == []  # plait will place its rule there


def accepted(*texts: tuple[str, str]) -> list[dict[str, Any]]:
    """Docker's rules with plait's at the top of FORWARD."""
    entries: list[dict[str, Any]] = host(DOCKER_NFT).answer("nft")
    place = {"family": "ip", "table": "filter", "chain": "FORWARD", "handle": 99}
    rules = [
        {
            "rule": {
                **place,
                "expr": [{"match": {"op": "==", "left": {"meta": {"key": key}}, "right": name}}, {"accept": None}],
            }
        }
        for key, name in texts
    ]
    first = next(index for index, entry in enumerate(entries) if "rule" in entry)
    return [*entries[:first], *rules, *entries[first:]]


def test_exposed_networks() -> None:
    exposed = node(exposed=["10.32.0.1/12"])
    out, into = found("forward-drop", host(DOCKER_LEGACY, more_links=[BRIDGE], node=exposed))
    assert out.severity is into.severity is Severity.BREAKS
    assert (out.finding.subject, into.finding.subject) == ("weave to eth0", "eth0 to weave")
    assert out.cure == "iptables-legacy -t filter -I FORWARD -i weave -j ACCEPT"
    assert into.cure == "iptables-legacy -t filter -I FORWARD -o weave -d 10.32.0.0/12 -j ACCEPT"
    flushed = found("forward-drop", host(DOCKER_NFT, more_links=[BRIDGE], node=exposed))
    assert flushed[0].cure == "nft 'insert rule ip filter FORWARD iifname \"weave\" counter accept'"
    placed = host(nft=accepted(("oifname", "weave"), ("iifname", "weave")), more_links=[BRIDGE], node=exposed)
    assert found("forward-drop", placed) == []


def test_networks_that_are_not_exposed_yet() -> None:
    (result,) = found("forward-drop", host(DOCKER_LEGACY, node=node()))
    assert result.severity is Severity.NOTE
    assert found("forward-drop", host(DOCKER_NFT, node=node())) == []
    assert found("forward-drop", host(DOCKER_NFT)) == []
    assert found("forward-drop", host()) == []


def test_fragments_that_a_rule_drops() -> None:
    lines = (":INPUT ACCEPT [0:0]", "-A INPUT -f -j DROP")
    (result,) = found("fragments", legacy(*lines))
    assert result.finding.subject == "eth0"
    assert "-A INPUT -f -j DROP" in result.finding.what
    assert found("fragments", legacy(":INPUT ACCEPT [0:0]")) == []
    tracked = legacy(*lines, "-A INPUT -m conntrack --ctstate INVALID -j DROP", files=CONNTRACK)
    assert found("fragments", tracked) == []  # conntrack has put them together before


def test_fragments_that_do_not_arrive() -> None:
    (result,) = found("fragments", host(node=node({"weave": True, "fragments": False})))
    assert (result.severity, result.certainty) == (Severity.NOTE, Certainty.LIKELY)
    assert "h2 (192.168.5.3:6783)" in result.finding.what
    assert found("fragments", host(node=node({"fragments": True}, {"fragments": None}))) == []


def test_rules_that_may_not_be_read() -> None:
    status = "Name:\tpython3\nCapPrm:\t0000000000000000\nCapEff:\t{}\nCapBnd:\t000001ffffffffff\n"
    for rights, expected in (("0000000000000000", 1), ("0000000000001000", 0), ("000001ffffffffff", 0)):
        machine = host(files={"/proc/self/status": status.format(rights)})
        assert len(found("unread-firewall", machine)) == expected
    assert found("unread-firewall", host()) == []
