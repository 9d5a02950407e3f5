"""Names on whole nodes: given on one, answered at another, and gone with what had them."""

import socket
from collections.abc import Iterator

import dns.message
import dns.query
import dns.rcode
import pytest

from lab.node_lab import check_logs, explained, kill, report, wait_for_neighbours
from plait.host import firewall, netns, nftables
from plait.host.firewall import Chain, Hook, Rule, Table
from plait.host.netlink import Netlink
from plait.testing.lab import Host, Lab, wait_until
from plait.testing.lab.features import missing_features


@pytest.fixture
def lab() -> Iterator[Lab]:
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as lab:
        yield lab
        check_logs(lab)


def pair(lab: Lab) -> tuple[Host, Host]:
    """Two nodes that answer for names at their own addresses."""
    one, two = lab.host("one"), lab.host("two")
    one.launch(extra=[f"--dns-listen-address={one.ip}:53", "--resolv-conf="])
    two.launch(one, extra=[f"--dns-listen-address={two.ip}:53", "--resolv-conf="])
    wait_for_neighbours(one, "two")
    return one, two


def ask(host: Host, name: str, rdtype: str = "A", *, tcp: bool = False, at: str | None = None) -> dns.message.Message:
    query = dns.message.make_query(name, rdtype)
    with host.entered():
        return (dns.query.tcp if tcp else dns.query.udp)(query, at or host.ip, timeout=10)


def answers(host: Host, name: str, rdtype: str = "A", *, tcp: bool = False, at: str | None = None) -> list[str]:
    found = ask(host, name, rdtype, tcp=tcp, at=at).answer
    return sorted(str(record) for rrset in found for record in rrset)


def resolves(host: Host, name: str, *addresses: str) -> None:
    """Wait until a name has these addresses at a node."""
    wait_until(lambda: answers(host, name) == sorted(addresses), f"{name} is {addresses} at {host.name}")


def test_names_given_on_one_node_are_answered_at_the_other(lab: Lab) -> None:
    one, two = pair(lab)
    first, second = one.container("c"), two.container("c")
    one.attach(first, "10.32.0.1/12")
    two.attach(second, "10.32.0.2/12")
    one.plait("dns-add", first.spec, "-h", "web")
    two.plait("dns-add", "10.32.0.2", second.spec, "-h", "Web.weave.local")
    one.plait("dns-add", "192.0.2.7", "-h", "printer")
    for host in (one, two):
        resolves(host, "web.weave.local.", "10.32.0.1", "10.32.0.2")
        resolves(host, "PRINTER.weave.local.", "192.0.2.7")
        assert answers(host, "web.", tcp=True) == ["10.32.0.1", "10.32.0.2"]
        assert answers(host, "1.0.32.10.in-addr.arpa.", "PTR") == ["web.weave.local."]
        assert ask(host, "web.weave.local.", "AAAA").rcode() == dns.rcode.NOERROR
        assert ask(host, "other.weave.local.").rcode() == dns.rcode.NXDOMAIN
        assert ask(host, "example.com.").rcode() == dns.rcode.SERVFAIL
        assert host.plait("dns-lookup", "web").stdout.split() == ["10.32.0.1", "10.32.0.2"]
        assert host.plait("dns-lookup", "192.0.2.7").stdout == "printer.weave.local.\n"
        listed = host.plait("status", "dns").stdout.splitlines()
        assert [line.split()[:2] for line in listed] == [
            ["printer", "192.0.2.7"],
            ["web", "10.32.0.1"],
            ["Web", "10.32.0.2"],
        ]
        assert host.plait("dns-args").stdout == f"--dns={host.ip} --dns-search=weave.local.\n"
    one.plait("dns-remove", "192.0.2.7", "-h", "printer")
    resolves(two, "printer.weave.local.")
    assert two.plait("dns-lookup", "printer").stdout == ""


def test_names_go_with_addresses_containers_and_nodes(lab: Lab) -> None:
    one, two = pair(lab)
    detached, dead, left = (one.container(name) for name in ("detached", "dead", "left"))
    for number, container in enumerate((detached, dead, left), start=1):
        one.attach(container, f"10.32.0.{number}/12")
        one.plait("dns-add", container.spec, "-h", container.name)
        resolves(two, f"{container.name}.weave.local.", f"10.32.0.{number}")
    one.plait("detach", detached.spec)
    resolves(two, "detached.weave.local.")
    netns.delete(dead.netns)
    one.containers.remove(dead)
    resolves(two, "dead.weave.local.")
    assert answers(two, "left.weave.local.") == ["10.32.0.3"]
    kill(one)
    resolves(two, "left.weave.local.")


def test_the_host_has_a_name_while_it_is_exposed(lab: Lab) -> None:
    one, two = pair(lab)
    one.plait("expose", "10.32.0.9/12", "-h", "gate")
    resolves(two, "gate.weave.local.", "10.32.0.9")
    one.plait("hide")
    resolves(two, "gate.weave.local.")


def test_a_node_that_comes_later_hears_all_names(lab: Lab) -> None:
    one, two = pair(lab)
    one.plait("dns-add", "192.0.2.7", "-h", "printer")
    late = lab.host("late")
    late.launch(two, extra=[f"--dns-listen-address={late.ip}:53"])
    resolves(late, "printer.weave.local.", "192.0.2.7")


def test_the_docker_bridge_is_where_containers_ask(lab: Lab) -> None:
    host = lab.host("one")
    host.run(["ip", "link", "add", "docker0", "type", "bridge"])
    host.run(["ip", "address", "add", "172.17.0.1/16", "dev", "docker0"])
    host.run(["ip", "link", "set", "docker0", "up"])
    host.launch()
    host.plait("dns-add", "192.0.2.7", "-h", "printer")
    assert answers(host, "printer.weave.local.", at="172.17.0.1") == ["192.0.2.7"]
    assert report(host)["DNS"]["Address"] == "172.17.0.1:53"
    assert host.plait("dns-args").stdout == "--dns=172.17.0.1 --dns-search=weave.local.\n"


def test_a_firewall_of_the_host_lets_containers_ask(lab: Lab) -> None:
    host = lab.host("one")
    container = host.container("c")
    host.run(["ip", "link", "add", "docker0", "type", "bridge"])
    host.run(["ip", "address", "add", "172.17.0.1/16", "dev", "docker0"])
    with Netlink(host.path) as netlink:
        netlink.create_veth("vethdocker", "eth0", 1500, container.path)
        netlink.set_link("vethdocker", master="docker0", up=True)
        netlink.set_link("docker0", up=True)
    with Netlink(container.path) as netlink:
        netlink.set_link("eth0", up=True)
        netlink.add_address("eth0", "172.17.0.2/16")
    with host.entered():
        chain = Chain("input", (Rule("iif lo accept"),), Hook("input", policy="drop"))
        firewall.apply(Table("inet", "fw", (chain,)))
    host.launch()
    host.plait("dns-add", "192.0.2.7", "-h", "printer")
    with host.entered():
        listing = "list chain inet fw input"
        wait_until(lambda: "dport" in str(nftables.query(listing)), "the firewall has rules for names")
    for tcp in (False, True):
        query = dns.message.make_query("printer.weave.local.", "A")
        with container.entered():
            answer = (dns.query.tcp if tcp else dns.query.udp)(query, "172.17.0.1", timeout=10).answer
        assert "192.0.2.7" in str(answer[0])
    host.plait("reset", "--force")
    with host.entered():
        assert "dport" not in str(nftables.query(listing))


def test_names_that_are_off(lab: Lab) -> None:
    host = lab.host("one")
    host.launch(extra=["--no-dns"])
    explained(host.plait("dns-add", "192.0.2.7", "-h", "printer", check=False), 4, "launched with --no-dns")
    explained(host.plait("dns-lookup", "printer", check=False), 4, "launched with --no-dns")
    assert host.plait("dns-args").stdout == ""
    assert host.plait("status", "dns", check=False).status == 1
    assert "DNS" not in report(host)


def test_wrong_words_are_explained(lab: Lab) -> None:
    host = lab.host("one")
    host.launch()
    explained(host.plait("dns-add", "192.0.2.7", "-h", "a.example.com", check=False), 1, "write a.weave.local")
    explained(host.plait("dns-add", "192.0.2.7", "-h", "a b", check=False), 1, "may have letters")
    explained(host.plait("dns-add", "netns:nobody", "-h", "a", check=False), 1, "attach it first")
    explained(host.plait("dns-add", "weave:extern", "-h", "a", check=False), 1, "no IPv4 address")


def test_an_address_that_is_taken_is_refused(lab: Lab) -> None:
    host = lab.host("one")
    with host.entered():
        taken = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        taken.bind((host.ip, 53))
    with taken:
        arguments = ["launch", "--name", host.peer_name, f"--dns-listen-address={host.ip}:53"]
        explained(host.plait(*arguments, check=False), 6, f"{host.ip}:53", "--no-dns")
