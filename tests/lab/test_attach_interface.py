"""Giving `ethwe` to namespaces and taking it back, on a real kernel."""

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

import pytest

from lab.attach_lab import Host, end, host, reaches, run_in
from plait.attach import interface, inventory
from plait.attach.container import Container, ContainerDied
from plait.attach.interface import Bridge, BridgeMissing, InterfaceTaken
from plait.host import arp, ethtool, firewall, netns, sysctl, tables
from plait.host.netlink import Netlink

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")

ONE, TWO, THREE = (ip_interface(f"10.32.0.{n}/12") for n in (1, 2, 3))
V6 = ip_interface("fd00::1/64")


@pytest.fixture
def h1() -> Iterator[Host]:
    with host() as made:
        yield made


def details(*where: str) -> dict[str, Any]:
    found = json.loads(
        subprocess.run(["ip", "-d", "-j", "link", "show", *where], capture_output=True, check=True).stdout
    )
    assert len(found) == 1
    return dict(found[0])


def host_ends() -> list[str]:
    with Netlink() as link:
        return [found.name for found in link.links() if found.name.startswith("vethwe")]


def guest_links(container: Container) -> list[str]:
    with Netlink(container.netns) as guest:
        return [link.name for link in guest.links() if link.name != "lo"]


def guest_addresses(container: Container) -> list[str]:
    with Netlink(container.netns) as guest:
        return [str(cidr) for cidr in interface.addresses_of(guest, "ethwe")]


def multicast_rules(container: Container) -> list[str]:
    listed = run_in(container, "nft", "list", "ruleset")
    return [line.strip() for line in listed.splitlines() if "224.0.0.0/4" in line]


def test_two_containers_reach_each_other(h1: Host) -> None:
    a, b = h1.container("a"), h1.container("b")
    assert interface.attach(a, [ONE, V6], h1.bridge) == [ONE, V6]
    assert interface.attach(b, [TWO, ip_interface("fd00::2/64")], h1.bridge) == [TWO, ip_interface("fd00::2/64")]
    assert reaches(a.netns, b.netns, "10.32.0.2")
    assert reaches(b.netns, a.netns, "10.32.0.1")
    assert reaches(a.netns, b.netns, "fd00::2")


def test_the_container_and_the_host_look_as_after_weaves_attach(h1: Host) -> None:
    a = h1.container("a")
    interface.attach(a, [ONE], h1.bridge)
    (name,) = host_ends()
    assert name == interface.host_end_name(a)
    assert len(name) <= 15
    port = details("dev", name)
    assert port["master"] == "weave"
    assert port["mtu"] == 1376
    assert "UP" in port["flags"]
    assert port["linkinfo"]["info_slave_data"]["hairpin"] is True
    assert sysctl.read(f"net/ipv6/conf/{name}/accept_ra") == "0"
    with netns.entered(a.netns):
        assert sysctl.read("net/ipv6/conf/ethwe/accept_ra") == "0"
        for setting, value in interface.NEIGHBOUR_SETTINGS.items():
            assert sysctl.read(f"net/ipv4/neigh/ethwe/{setting}") == value
        assert ethtool.features("ethwe")["tx-checksum-ip-generic"]
        guest = details("dev", "ethwe")
    assert guest["mtu"] == 1376
    assert "UP" in guest["flags"]
    routes = run_in(a, "ip", "route").splitlines()
    assert any(line.startswith("10.32.0.0/12 dev ethwe proto kernel scope link") for line in routes)
    assert any(line.startswith("224.0.0.0/4 dev ethwe") and "scope link" in line for line in routes)
    assert "broadcast 10.47.255.255 dev ethwe" in run_in(a, "ip", "route", "show", "table", "local")
    assert multicast_rules(a) == [
        'iifname "ethwe" ip saddr 10.32.0.0/12 ip daddr 224.0.0.0/4 accept',
        'iifname "ethwe" ip daddr 224.0.0.0/4 drop',
    ]


def test_repeating_changes_nothing_and_adds_only_what_is_missing(h1: Host) -> None:
    a = h1.container("a")
    interface.attach(a, [ONE], h1.bridge)
    before = details("dev", host_ends()[0])
    assert interface.attach(a, [ONE], h1.bridge) == []
    assert interface.attach(a, [ONE, TWO], h1.bridge) == [TWO]
    assert details("dev", host_ends()[0])["ifindex"] == before["ifindex"]
    assert guest_addresses(a) == [str(ONE), str(TWO)]


def test_what_another_tool_took_comes_back(h1: Host) -> None:
    a, b = h1.container("a"), h1.container("b")
    interface.attach(a, [ONE], h1.bridge)
    interface.attach(b, [TWO], h1.bridge)
    (name,) = {interface.host_end_name(a)}
    with Netlink() as link, Netlink(a.netns) as guest:
        link.set_link(name, master="", up=False, mtu=1300)
        guest.set_link("ethwe", up=False, mtu=1300)
        guest.delete_address("ethwe", ONE)
    with netns.entered(a.netns):
        firewall.delete("ip", tables.MULTICAST)
    assert interface.attach(a, [ONE], h1.bridge) == [ONE]
    assert details("dev", name)["mtu"] == 1376
    assert len(multicast_rules(a)) == 2
    assert reaches(a.netns, b.netns, "10.32.0.2")


def test_without_multicast_route_and_with_checksums_in_software(h1: Host) -> None:
    a = h1.container("a")
    interface.attach(a, [ONE], Bridge(tx_checksum=False), multicast_route=False)
    assert "224.0.0.0" not in run_in(a, "ip", "route")
    with netns.entered(a.netns):
        assert not ethtool.features("ethwe")["tx-checksum-ip-generic"]
    interface.attach(a, [ONE], h1.bridge)  # a bridge of another kind took over
    assert "224.0.0.0" in run_in(a, "ip", "route")
    with netns.entered(a.netns):
        assert ethtool.features("ethwe")["tx-checksum-ip-generic"]


def test_multicast_is_taken_only_from_own_subnets(h1: Host) -> None:
    receiver, friend, stranger = (h1.container(name) for name in ("r", "f", "s"))
    interface.attach(receiver, [ONE], h1.bridge)
    interface.attach(friend, [TWO], h1.bridge)
    interface.attach(stranger, [ip_interface("10.99.0.1/16")], h1.bridge)
    with netns.entered(receiver.netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as group:
        group.settimeout(2)
        group.bind(("", 5000))
        group.setsockopt(
            socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton("224.1.2.3") + socket.inet_aton("10.32.0.1")
        )
        for container, text in ((stranger, b"stranger"), (friend, b"friend")):
            with netns.entered(container.netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                sender.sendto(text, ("224.1.2.3", 5000))
        assert group.recv(64) == b"friend"


def test_new_addresses_are_announced(h1: Host) -> None:
    a, b = h1.container("a"), h1.container("b")
    interface.attach(a, [ONE], h1.bridge)
    with netns.entered(a.netns):
        listener = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806))
    with listener:
        listener.bind(("ethwe", 0x0806))
        listener.settimeout(5)
        interface.attach(b, [TWO, THREE], h1.bridge)
        interface.attach(b, [TWO, THREE], h1.bridge)
        interface.attach(b, [ip_interface("10.32.0.4/12")], h1.bridge)
        senders = [listener.recv(128)[28:32] for _ in range(3)]
    assert senders == [TWO.ip.packed, THREE.ip.packed, bytes((10, 32, 0, 4))]


def test_detaching_an_address_keeps_the_others_of_its_subnet(h1: Host) -> None:
    a = h1.container("a")
    interface.attach(a, [ONE, TWO, V6, ip_interface("10.99.0.1/16")], h1.bridge)
    assert interface.detach(a, [ONE, THREE, ip_interface("10.99.0.1/16")]) == [ONE, ip_interface("10.99.0.1/16")]
    assert guest_addresses(a) == [str(TWO), str(V6)]
    assert len(multicast_rules(a)) == 2
    assert interface.detach(a, [ONE]) == []


def test_the_last_address_takes_everything_with_it(h1: Host) -> None:
    a = h1.container("a")
    interface.attach(a, [ONE, TWO], h1.bridge)
    assert interface.detach(a, [TWO]) == [TWO]
    assert interface.detach(a, [ONE]) == [ONE]
    assert guest_links(a) == []
    assert host_ends() == []
    assert multicast_rules(a) == []
    assert interface.detach(a, [ONE]) == []
    interface.attach(a, [ONE, TWO, V6], h1.bridge)
    assert interface.detach(a, None) == [ONE, TWO, V6]
    assert host_ends() == []


def test_ipv6_works_where_docker_turned_it_off(h1: Host) -> None:
    a, b = h1.container("a"), h1.container("b")
    for container in (a, b):
        with netns.entered(container.netns):
            sysctl.write("net/ipv6/conf/all/disable_ipv6", "1")
            sysctl.write("net/ipv6/conf/default/disable_ipv6", "1")
    interface.attach(a, [V6], h1.bridge)
    interface.attach(b, [ip_interface("fd00::2/64")], h1.bridge)
    assert reaches(a.netns, b.netns, "fd00::2")


def test_no_bridge_is_explained(h1: Host) -> None:
    a = h1.container("a")
    with pytest.raises(BridgeMissing, match='bridge "nowhere" not present; did you launch weave'):
        interface.attach(a, [ONE], Bridge("nowhere"))
    with Netlink() as link:
        link.create_veth("ethwe7", "other", 1500)
    with pytest.raises(BridgeMissing):
        interface.attach(a, [ONE], Bridge("ethwe7"))


def test_a_strange_ethwe_is_left_alone(h1: Host) -> None:
    a, b = h1.container("a"), h1.container("b")
    with Netlink(a.netns) as guest:
        guest.create_bridge("ethwe")
    with Netlink(b.netns) as guest:
        guest.create_veth("ethwe", "local", 1500)
    for container in (a, b):
        before = guest_links(container)
        with pytest.raises(InterfaceTaken, match="leads to no port of the bridge weave"):
            interface.attach(container, [ONE], h1.bridge)
        assert guest_links(container) == before


def test_an_ethwe_of_another_bridge_is_left_alone(h1: Host) -> None:
    a = h1.container("a")
    with Netlink() as link:
        link.create_bridge("other")
    interface.attach(a, [ONE], Bridge("other"))
    with pytest.raises(InterfaceTaken):
        interface.attach(a, [TWO], h1.bridge)
    assert guest_addresses(a) == [str(ONE)]


def test_a_pair_that_a_dead_container_left_is_replaced(h1: Host) -> None:
    a, child = h1.process()
    held = os.open(a.netns, os.O_RDONLY)  # keeps the namespace, and so its pair, after the process
    try:
        interface.attach(a, [ONE], h1.bridge)
        end(child)
        b = h1.container("b")
        reused = Container("reused", b.netns, b.netns_id, a.pid)
        assert interface.attach(reused, [ONE], h1.bridge) == [ONE]
        assert host_ends() == [f"vethwepl{a.pid}"]
    finally:
        os.close(held)
    with pytest.raises(ContainerDied, match=f"^Container {a.ident} died$"):
        interface.attach(a, [ONE], h1.bridge)
    with pytest.raises(ContainerDied):
        interface.detach(a, None)
    assert host_ends() == [f"vethwepl{a.pid}"]


STEPS = (
    (Netlink, ("link", "create_veth", "set_link", "set_hairpin", "addresses", "add_address", "add_route")),
    (sysctl, ("write",)),
    (firewall, ("apply",)),
    (arp, ("announce",)),
)


def after_steps(monkeypatch: pytest.MonkeyPatch, number: int, happen: Callable[[], None]) -> Callable[[], bool]:
    """Let something happen just before the step with this number; the result tells whether it did."""
    count = 0

    def counted(real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*arguments: Any, **more: Any) -> Any:
            nonlocal count
            count += 1
            if count == number + 1:
                happen()
            return real(*arguments, **more)

        return step

    for owner, names in STEPS:
        for name in names:
            monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    return lambda: count > number


def mortal(h1: Host, kind: str, number: int) -> tuple[Container, Callable[[], None]]:
    if kind == "process":
        container, child = h1.process()
        return container, lambda: end(child)
    container = h1.container(f"n{number}")
    return container, lambda: netns.delete(container.netns.name)


def attempt(container: Container, bridge: Bridge) -> str:
    try:
        interface.attach(container, [ONE, V6], bridge)
    except ContainerDied as died:
        return str(died)
    return "attached"


@pytest.mark.parametrize("kind", ["process", "name"])
def test_a_container_that_dies_at_any_step_leaves_nothing(h1: Host, kind: str) -> None:
    for number in range(200):
        container, die = mortal(h1, kind, number)
        with pytest.MonkeyPatch.context() as patch:
            happened = after_steps(patch, number, die)
            outcome = attempt(container, h1.bridge)
        if not happened():
            break
        assert outcome == f"Container {container.ident} died"
        assert host_ends() == []
    else:
        pytest.fail("attach has no end")
    assert number > 20


def test_a_namespace_that_vanishes_with_its_pair_is_a_death(h1: Host) -> None:
    a = h1.container("a")
    interface.attach(a, [ONE], h1.bridge)

    def die() -> None:
        with Netlink(h1.netns) as link:
            link.delete_link(interface.host_end_name(a))
        netns.delete(a.netns.name)

    with pytest.MonkeyPatch.context() as patch:
        after_steps(patch, 8, die)
        with pytest.raises(ContainerDied):
            interface.attach(a, [TWO], h1.bridge)
    assert host_ends() == []


def test_a_refusal_leaves_nothing_half_made(h1: Host) -> None:
    a = h1.container("a")

    def refuse() -> None:
        raise OSError("out of memory")

    for number in range(200):
        with pytest.MonkeyPatch.context() as patch:
            happened = after_steps(patch, number, refuse)
            try:
                interface.attach(a, [ONE, V6], h1.bridge)
            except OSError:
                assert host_ends() == []
                assert guest_links(a) == []
            else:
                assert not happened()
                break
    assert guest_addresses(a) == [str(ONE), str(V6)]


# Threads that only close something do no harm to a child.
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_node_killed_at_any_step_is_made_good_by_the_next(h1: Host) -> None:
    a = h1.container("a")
    for number in range(200):
        child = os.fork()
        if child == 0:
            try:
                with pytest.MonkeyPatch.context() as patch:
                    after_steps(patch, number, lambda: os._exit(1))
                    interface.attach(a, [ONE], h1.bridge)
                os._exit(0)
            finally:
                os._exit(2)
        _, status = os.waitpid(child, 0)
        status = os.waitstatus_to_exitcode(status)
        assert status in (0, 1)
        if number % 2:
            inventory.remove_leftovers(h1.bridge)
        interface.attach(a, [ONE], h1.bridge)
        assert len(host_ends()) == 1
        assert guest_links(a) == ["ethwe"]
        assert guest_addresses(a) == [str(ONE)]
        if status == 0:
            break
        interface.detach(a, None)
    else:
        pytest.fail("attach has no end")


def test_leftovers_go_and_what_is_in_use_stays(h1: Host) -> None:
    named, unfinished = h1.container("a"), h1.container("u")
    process, child = h1.process()
    pinned, dead = h1.process()
    cni = h1.container("cni")
    held = os.open(pinned.netns, os.O_RDONLY)
    try:
        for number, container in enumerate((named, process, pinned), 1):
            interface.attach(container, [ip_interface(f"10.32.0.{number}/12")], h1.bridge)
        end(dead)
        with Netlink() as link:
            link.create_veth("vethwepln00000", "vethwepgn00000", 1376, unfinished.netns)
            link.create_veth("vethweplc0ffee1", "eth0", 1376, cni.netns)
            link.create_veth("vethweplother", "x", 1376)
            link.create_bridge("vethwepl99")
        gone = f"vethwepl{pinned.pid}"
        assert sorted(inventory.remove_leftovers(h1.bridge)) == sorted([gone, "vethwepln00000"])
        assert inventory.remove_leftovers(h1.bridge) == []
        kept = {interface.host_end_name(named), interface.host_end_name(process), "vethweplc0ffee1"}
        assert kept <= set(host_ends())
    finally:
        os.close(held)
    assert child.poll() is None


def test_inventory_finds_interfaces_of_any_name(h1: Host) -> None:
    a, b, c, outside = (h1.container(name) for name in "abco")
    interface.attach(a, [ONE, V6], h1.bridge)
    with Netlink() as link:
        link.create_veth("vethweplc0ffee1", "eth0", 1376, b.netns)
        link.set_link("vethweplc0ffee1", master="weave", up=True)
        link.create_veth("unrelated", "eth0", 1376, outside.netns)
    with Netlink(b.netns) as guest:
        guest.add_address("eth0", "10.40.0.1/12")
        eth0 = guest.link("eth0")
    with Netlink(a.netns) as guest:
        ethwe = guest.link("ethwe")
    assert ethwe is not None
    assert eth0 is not None
    gone = Container("gone", Path("/run/netns/plait-att-nowhere"), "x/1/1")
    found = inventory.container_interfaces(h1.bridge, [a, b, c, outside, gone])
    assert [(one.ident, one.mac, one.cidrs) for one in found] == [
        (a.ident, ethwe.mac, [str(ONE), str(V6)]),
        (b.ident, eth0.mac, ["10.40.0.1/12"]),
    ]
    assert inventory.bridge_interface(h1.bridge).mac == "7a:00:00:00:00:01"
