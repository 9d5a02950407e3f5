"""The typed netlink adapter against the kernel, in namespaces."""

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network

import pytest

from plait.errors import AddressInUse, KernelRefused
from plait.host import netns
from plait.host.kernel_errors import NoSuchLink, NoSuchNamespace
from plait.host.netlink import Netlink

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")

MAC = "02:00:00:00:00:01"


@pytest.fixture
def space() -> Iterator[str]:
    yield from _space("a")


@pytest.fixture
def other() -> Iterator[str]:
    yield from _space("b")


def _space(suffix: str) -> Iterator[str]:
    name = f"plait-nl-{os.getpid()}-{suffix}"
    path = netns.create(name)
    try:
        yield str(path)
    finally:
        netns.delete(name)


def test_bridge_is_made_with_its_mac_and_mtu_and_making_it_again_is_fine(space: str) -> None:
    with Netlink(space) as netlink:
        netlink.create_bridge("weave", MAC, 1376)
        netlink.create_bridge("weave", "02:00:00:00:00:02", 1400)
        netlink.set_link("weave", up=True)
        link = netlink.link("weave")
        assert link is not None
        assert (link.kind, link.mac, link.mtu, link.is_up) == ("bridge", MAC, 1376, True)
        assert netlink.link_by_index(link.index) == link
        assert link in netlink.links()


def test_name_of_another_kind_of_link_is_refused(space: str) -> None:
    with Netlink(space) as netlink:
        netlink.create_veth("weave", "peer", 1500)
        with pytest.raises(KernelRefused, match="cannot create the bridge weave: File exists"):
            netlink.create_bridge("weave", MAC, 1376)
        with pytest.raises(KernelRefused, match="other - peer: File exists"):
            netlink.create_veth("other", "peer", 1500)


def test_veth_peer_is_born_in_its_namespace(space: str, other: str) -> None:
    with Netlink(space) as here, Netlink(other) as there:
        here.create_veth("host0", "ethwe", 1376, other, mac=MAC, peer_mac="02:00:00:00:00:09")
        here.create_veth("host0", "ethwe", 1376, other)
        near, far = here.link("host0"), there.link("ethwe")
        assert near is not None
        assert far is not None
        assert here.link("ethwe") is None
        assert (near.kind, near.mac, near.mtu, near.peer_index) == ("veth", MAC, 1376, far.index)
        assert near.peer_netns_id is not None
        assert (far.mac, far.mtu, far.peer_index) == ("02:00:00:00:00:09", 1376, near.index)


def test_ports_hairpin_and_leaving_the_bridge(space: str) -> None:
    with Netlink(space) as netlink:
        netlink.create_bridge("weave", MAC, 1376)
        netlink.create_veth("p0", "p1", 1376)
        netlink.set_link("p0", master="weave", up=True)
        assert [port.name for port in netlink.ports("weave")] == ["p0"]
        netlink.set_hairpin("p0", True)
        netlink.set_hairpin("p0", True)
        netlink.set_link("p0", master="")
        assert netlink.ports("weave") == []
        with pytest.raises(NoSuchLink, match="in a bridge"):
            netlink.set_hairpin("p0", True)


def test_every_property_of_a_link_can_be_changed(space: str, other: str) -> None:
    with Netlink(space) as netlink, Netlink(other) as there:
        netlink.create_veth("p0", "p1", 1376)
        netlink.set_link("p0", mtu=1300, mac=MAC, gso_max_size=9000, txqueuelen=77, new_name="q0")
        link = netlink.link("q0")
        assert link is not None
        assert (link.mtu, link.mac, link.gso_max_size, link.is_up, link.has_carrier) == (1300, MAC, 9000, False, False)
        netlink.set_link("q0", netns=other)
        assert netlink.link("q0") is None
        assert there.link("q0") is not None
        netlink.set_link("p1")


def test_carrier_comes_with_the_other_end(space: str) -> None:
    with Netlink(space) as netlink:
        netlink.create_veth("p0", "p1", 1376)
        for name in ("p0", "p1"):
            netlink.set_link(name, up=True)
        link = netlink.link("p0")
        assert link is not None
        assert link.has_carrier


def test_deleting_twice_is_fine(space: str) -> None:
    with Netlink(space) as netlink:
        netlink.create_veth("p0", "p1", 1376)
        netlink.delete_link("p0")
        netlink.delete_link("p0")
        assert netlink.link("p1") is None


def test_vxlan_device_reports_a_taken_port_when_set_up(space: str) -> None:
    with Netlink(space) as netlink:
        netlink.create_vxlan("vxlan-6784", 6784, 1450)
        netlink.set_link("vxlan-6784", up=True)
        link = netlink.link("vxlan-6784")
        assert link is not None
        assert (link.kind, link.mtu, link.is_up) == ("vxlan", 1450, True)
        netlink.set_link("vxlan-6784", up=False)
        with netns.entered(space), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as holder:
            holder.bind(("0.0.0.0", 6784))
            with pytest.raises(AddressInUse, match="ss -lunpt"):
                netlink.set_link("vxlan-6784", up=True)


def test_addresses_come_and_go(space: str) -> None:
    with Netlink(space) as netlink:
        netlink.create_bridge("weave", MAC, 1376)
        link = netlink.link("weave")
        assert link is not None
        assert netlink.add_address("weave", "10.32.0.1/12")
        assert not netlink.add_address("weave", ip_interface("10.32.0.1/12"))
        assert netlink.add_address("weave", "fd00::1/64")
        assert not netlink.add_address("weave", "fd00::1/64")
        found = netlink.addresses("weave")
        assert {str(address.cidr) for address in found} == {"10.32.0.1/12", "fd00::1/64"}
        assert {address.link_index for address in found} == {link.index}
        assert {str(address.cidr) for address in netlink.addresses()} == {"10.32.0.1/12", "fd00::1/64"}
        assert netlink.delete_address("weave", "10.32.0.1/12")
        assert not netlink.delete_address("weave", "10.32.0.1/12")
        with pytest.raises(NoSuchLink, match="there is no interface gone"):
            netlink.add_address("gone", "10.32.0.1/12")


def test_routes_come_and_go(space: str) -> None:
    with Netlink(space) as netlink:
        netlink.create_veth("ethwe", "peer", 1376)
        netlink.set_link("peer", up=True)
        netlink.set_link("ethwe", up=True)
        netlink.add_address("ethwe", "10.32.0.1/12")
        assert netlink.add_route("224.0.0.0/4", "ethwe", scope="link")
        assert not netlink.add_route("224.0.0.0/4", "ethwe", scope="link")
        assert netlink.add_route("10.99.0.0/24", gateway="10.32.0.2", mtu=1280)
        routes = {str(route.destination): route for route in netlink.routes()}
        assert routes["224.0.0.0/4"].is_link_scope
        assert routes["224.0.0.0/4"].device == "ethwe"
        assert routes["10.99.0.0/24"].gateway == ip_address("10.32.0.2")
        assert routes["10.99.0.0/24"].mtu == 1280
        assert routes["10.32.0.0/12"].source == ip_address("10.32.0.1")
        assert netlink.delete_route("224.0.0.0/4", "ethwe")
        assert not netlink.delete_route("224.0.0.0/4", "ethwe")
        with pytest.raises(KernelRefused, match=r"add the route to 10\.98"):
            netlink.add_route("10.98.0.0/16", gateway="99.9.9.9")


def test_route_lookup(space: str) -> None:
    with Netlink(space) as netlink:
        assert netlink.route_to("10.99.0.1") is None
        assert netlink.route_to("fd99::1") is None
        netlink.create_veth("eth0", "peer", 1376)
        netlink.set_link("eth0", up=True)
        netlink.add_address("eth0", "10.1.0.1/24")
        netlink.add_route("0.0.0.0/0", gateway="10.1.0.254")
        route = netlink.route_to("10.99.0.1")
        assert route is not None
        assert (route.device, route.gateway, route.source) == ("eth0", ip_address("10.1.0.254"), ip_address("10.1.0.1"))
        assert route.destination == ip_network("10.99.0.1/32")
        assert [str(each.destination) for each in netlink.routes() if each.gateway] == ["0.0.0.0/0"]


def test_absent_namespace_is_explained() -> None:
    with pytest.raises(NoSuchNamespace, match="there is no network namespace at /run/netns/plait-none"):
        Netlink("/run/netns/plait-none")


def test_absent_namespace_of_a_peer_is_explained(space: str) -> None:
    with Netlink(space) as netlink, pytest.raises(NoSuchNamespace):
        netlink.create_veth("a", "b", 1500, "/run/netns/plait-none")


def test_works_from_threads_beside_a_running_loop_and_leaks_nothing(space: str) -> None:
    def work(number: int) -> int:
        with Netlink(space) as netlink:
            netlink.create_veth(f"a{number}", f"b{number}", 1500)
            netlink.delete_link(f"a{number}")
            return len(netlink.links())

    async def main() -> list[int]:
        return list(await asyncio.gather(*(asyncio.to_thread(work, number) for number in range(8))))

    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    assert len(asyncio.run(main())) == 8
    gc.collect()
    assert threading.active_count() == threads
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_wrong_thread_and_event_loop_are_told_so(space: str) -> None:
    async def inside_a_loop() -> None:
        Netlink(space)

    async def in_another_thread(netlink: Netlink) -> None:
        await asyncio.to_thread(netlink.links)

    with pytest.raises(RuntimeError, match="to_thread"):
        asyncio.run(inside_a_loop())
    with Netlink(space) as netlink, pytest.raises(RuntimeError, match="thread that opened it"):
        asyncio.run(in_another_thread(netlink))
