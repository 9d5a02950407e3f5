"""The host's addresses on the bridge and their rules, on a real kernel."""

import os
import socket
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Network, ip_interface

import pytest

from lab.attach_lab import Host, host, reaches
from plait.attach import expose, interface
from plait.attach.container import Container
from plait.attach.interface import Bridge, BridgeMissing
from plait.host import firewall, netns, nftables, sysctl
from plait.host.netlink import Netlink
from plait.state import Exposure

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")

ONE = Exposure("10.32.0.1/12", True)
TWO = Exposure("10.32.0.2/12", True)
PLAIN = Exposure("10.99.0.1/16", False)
DOCKER = """table ip filter {
  chain FORWARD {
    type filter hook forward priority filter; policy drop;
  }
}
"""


@pytest.fixture
def h1() -> Iterator[Host]:
    with host() as made:
        sysctl.write("net.ipv4.ip_forward", "1")
        yield made


def apply(h1: Host, *exposures: Exposure) -> list[str]:
    warnings: list[str] = []
    added = expose.apply(h1.bridge, exposures, warnings.append)
    assert warnings == []
    return [str(cidr) for cidr in added]


def neighbour(h1: Host) -> Container:
    """Another machine, 192.0.2.2, on an interface of the host, 192.0.2.1."""
    world = h1.container("w")
    with Netlink() as link:
        link.create_veth("up0", "eth0", 1500, world.netns)
        link.add_address("up0", "192.0.2.1/24")
        link.set_link("up0", up=True)
    with Netlink(world.netns) as far:
        far.add_address("eth0", "192.0.2.2/24")
        far.set_link("eth0", up=True)
    return world


def asker_seen(asker: Container, asked: Container, address: str) -> str:
    """The address that one sees another ask from, by UDP; its answer arrives."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with netns.entered(asked.netns):
        server = socket.socket(family, socket.SOCK_DGRAM)
    with netns.entered(asker.netns):
        client = socket.socket(family, socket.SOCK_DGRAM)
    with server, client:
        server.settimeout(5)
        client.settimeout(5)
        server.bind((address, 5000))
        client.sendto(b"question", (address, 5000))
        question, sender = server.recvfrom(64)
        assert question == b"question"
        server.sendto(b"answer", sender)
        assert client.recv(64) == b"answer"
    return str(sender[0])


def rules() -> str:
    return subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True, check=True).stdout


def addresses(h1: Host) -> list[str]:
    return [str(cidr) for cidr in expose.present(h1.bridge)]


def test_the_host_and_a_container_reach_each_other(h1: Host) -> None:
    a = h1.container("a")
    interface.attach(a, [ip_interface("10.32.0.9/12"), ip_interface("fd00::9/64")], h1.bridge)
    assert apply(h1, ONE, Exposure("fd00::1/64", False)) == ["10.32.0.1/12", "fd00::1/64"]
    for source, target, address in (
        (h1.netns, a.netns, "10.32.0.9"),
        (a.netns, h1.netns, "10.32.0.1"),
        (h1.netns, a.netns, "fd00::9"),
    ):
        assert reaches(source, target, address)


def test_repeating_is_harmless_and_flushed_rules_come_back(h1: Host) -> None:
    apply(h1, ONE, PLAIN)
    before = rules()
    assert apply(h1, ONE, PLAIN) == []
    assert rules() == before
    nftables.run("flush ruleset")
    with Netlink() as link:
        link.delete_address("weave", "10.99.0.1/16")
    assert apply(h1, ONE, PLAIN) == ["10.99.0.1/16"]
    assert rules() == before


def test_only_what_is_masqueraded_has_rules_in_the_nat_table(h1: Host) -> None:
    apply(h1, PLAIN)
    assert "masquerade" not in rules()
    apply(h1, ONE, PLAIN)
    found = [line.strip() for line in rules().splitlines() if "daddr" in line]
    assert found == [
        "ip saddr 10.32.0.0/12 ip daddr 224.0.0.0/4 return",
        "ip daddr 10.32.0.0/12 ip saddr != 10.32.0.0/12 masquerade fully-random",
        "ip saddr 10.32.0.0/12 ip daddr != 10.32.0.0/12 masquerade fully-random",
    ]


def test_a_container_reaches_the_world_under_the_hosts_address(h1: Host) -> None:
    a, world = h1.container("a"), neighbour(h1)
    nftables.run(DOCKER)
    interface.attach(a, [ip_interface("10.32.0.9/12")], h1.bridge)
    apply(h1, ONE)
    with Netlink(a.netns) as guest:
        guest.add_route("192.0.2.0/24", "ethwe", gateway="10.32.0.1")
    assert asker_seen(a, world, "192.0.2.2") == "192.0.2.1"


def test_a_container_reaches_the_world_by_ipv6_under_the_hosts_address(h1: Host) -> None:
    a, world = h1.container("a"), neighbour(h1)
    sysctl.write("net/ipv6/conf/all/forwarding", "1")
    for node, device, address in ((h1.netns, "up0", "2001:db8::1/64"), (world.netns, "eth0", "2001:db8::2/64")):
        with netns.entered(node):
            interface.prepare_ipv6(device)
        with Netlink(node) as link:
            link.add_address(device, address)
    nftables.run(DOCKER.replace("table ip ", "table ip6 "))
    interface.attach(a, [ip_interface("fd00::9/64")], h1.bridge)
    apply(h1, ONE, Exposure("fd00::1/64", True))
    with Netlink(a.netns) as guest:
        guest.add_route("2001:db8::/64", "ethwe", gateway="fd00::1")
    assert asker_seen(a, world, "2001:db8::2") == "2001:db8::1"
    expose.remove(h1.bridge, [ip_interface("fd00::1/64")])
    assert not expose.is_in_place(h1.bridge, [ONE]), "the rules are there still"
    apply(h1, ONE)
    assert not firewall.exists("ip6", "plait_expose")
    assert "fd00" not in rules()


@pytest.mark.parametrize(("kept", "seen"), [((), "10.32.0.1"), ((IPv4Network("10.32.0.0/18"),), "192.0.2.2")])
def test_what_goes_to_kept_networks_keeps_its_source(h1: Host, kept: tuple[IPv4Network, ...], seen: str) -> None:
    """From another machine that finds the containers by this host."""
    a, world = h1.container("a"), neighbour(h1)
    interface.attach(a, [ip_interface("10.32.0.9/12")], h1.bridge)
    expose.apply(h1.bridge, [ONE], pytest.fail, kept)
    for node, destination, device, gateway in (
        (world, "10.32.0.0/12", "eth0", "192.0.2.1"),
        (a, "192.0.2.0/24", "ethwe", "10.32.0.1"),
    ):
        with Netlink(node.netns) as netlink:
            netlink.add_route(destination, device, gateway=gateway)
    assert asker_seen(world, a, "10.32.0.9") == seen


def test_a_foreign_chain_that_drops_accepts_containers_and_what_is_exposed(h1: Host) -> None:
    nftables.run(DOCKER)
    before = rules()
    apply(h1, ONE, TWO)
    (chain,) = firewall.droppers("forward")
    found = [line for line in rules().splitlines() if 'comment "plait' in line]
    assert len(found) == 2
    apply(h1, PLAIN)
    assert "to the exposed 10.99.0.0/16" in rules()
    assert "10.32.0.0/12" not in rules()
    apply(h1)
    # With br_netfilter this chain sees frames between ports of the bridge, so containers stay accepted.
    assert [line for line in rules().splitlines() if 'comment "plait' in line] == [
        line for line in found if "from containers" in line
    ]
    firewall.delete_accepts()
    assert rules() == before
    assert firewall.droppers("forward") == [chain]


def test_remove_takes_only_what_is_there_and_keeps_the_rest_of_the_subnet(h1: Host) -> None:
    apply(h1, ONE, TWO, PLAIN)
    removed = expose.remove(h1.bridge, [ip_interface("10.32.0.1/12"), ip_interface("10.32.0.7/12")])
    assert [str(cidr) for cidr in removed] == ["10.32.0.1/12"]
    assert sorted(addresses(h1)) == ["10.32.0.2/12", "10.99.0.1/16"]


def test_a_new_address_is_announced_once(h1: Host) -> None:
    a = h1.container("a")
    interface.attach(a, [ip_interface("10.32.0.9/12")], h1.bridge)
    with netns.entered(a.netns):
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    with listener:
        listener.bind(("ethwe", 0x0806))
        listener.settimeout(5)
        apply(h1, ONE)
        apply(h1, ONE, TWO)
        assert [listener.recv(128)[28:32] for _ in range(2)] == [bytes((10, 32, 0, 1)), bytes((10, 32, 0, 2))]


def test_a_host_that_does_not_forward_is_told_so(h1: Host) -> None:
    sysctl.write("net.ipv4.ip_forward", "0")
    warnings: list[str] = []
    expose.apply(h1.bridge, [PLAIN], warnings.append)
    assert warnings == []
    expose.apply(h1.bridge, [ONE, PLAIN], warnings.append)
    assert len(warnings) == 1
    assert "sysctl -w net.ipv4.ip_forward=1" in warnings[0]


def test_no_bridge_is_explained(h1: Host) -> None:
    nowhere = Bridge("nowhere")
    with pytest.raises(BridgeMissing):
        expose.apply(nowhere, [ONE], pytest.fail)
    with pytest.raises(BridgeMissing):
        expose.remove(nowhere, [])
    with pytest.raises(BridgeMissing):
        expose.present(nowhere)
