"""Offloads, announcements and the underlay's MTU, in namespaces."""

import os
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Interface, IPv4Network, ip_address, ip_interface
from pathlib import Path

import pytest

from plait.errors import KernelLacks
from plait.host import arp, ethtool, netns, underlay
from plait.host.kernel_errors import NoSuchLink
from plait.host.netlink import Netlink, Route

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root for network namespaces")

MAC = "02:00:00:00:00:01"


@pytest.fixture(autouse=True)
def _inside() -> Iterator[Path]:
    """Run the test in a namespace with a veth pair a (10.1.0.1/24, fd00::1/64) - b, both up."""
    name = f"plait-if-{os.getpid()}"
    path = netns.create(name)
    try:
        with netns.entered(path):
            with Netlink() as netlink:
                netlink.create_veth("a", "b", 1400, mac=MAC)
                for end in ("a", "b", "lo"):
                    netlink.set_link(end, up=True)
                netlink.add_address("a", "10.1.0.1/24")
            yield path
    finally:
        netns.delete(name)


def test_driver_and_absent_interface() -> None:
    assert ethtool.driver("a") == "veth"
    for name in ("nope", "", "much-too-long-a-name"):
        with pytest.raises(NoSuchLink, match="does not exist"):
            ethtool.driver(name)


def test_transmit_checksum_offload() -> None:
    assert ethtool.features("a")["tx-checksum-ip-generic"]
    ethtool.set_tx_checksum("a", False)
    ethtool.set_tx_checksum("a", False)
    assert not ethtool.features("a")["tx-checksum-ip-generic"]
    ethtool.set_tx_checksum("a", True)
    assert ethtool.features("a")["tx-checksum-ip-generic"]


def test_features_by_name() -> None:
    wanted = {"tx-tcp-segmentation": False, "tx-generic-segmentation": False, "rx-gro": True}
    ethtool.set_features("a", wanted)
    found = ethtool.features("a")
    assert {name: found[name] for name in wanted} == wanted
    assert ethtool.features("b")["tx-tcp-segmentation"]
    with pytest.raises(KernelLacks, match="has no offload warp-drive"):
        ethtool.set_features("a", {"warp-drive": True})
    with pytest.raises(KernelLacks, match="does not let tx-checksum-ip-generic be changed"):
        ethtool.set_features("lo", {"tx-checksum-ip-generic": False})


def test_gratuitous_arp_reaches_the_neighbour() -> None:
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)) as listener:
        listener.bind(("b", 0x0806))
        listener.settimeout(5)
        arp.announce("a", "10.1.0.1")
        frame = listener.recv(2048)
    mac = bytes.fromhex(MAC.replace(":", ""))
    assert frame[:14] == b"\xff" * 6 + mac + b"\x08\x06"
    assert struct.unpack("!HHBBH", frame[14:22]) == (1, 0x0800, 6, 4, 1)
    assert frame[22:42] == mac + socket.inet_aton("10.1.0.1") + bytes(6) + socket.inet_aton("10.1.0.1")


def test_neighbour_advertisement_reaches_the_neighbour() -> None:
    with Netlink() as netlink:
        netlink.set_link("a", up=False)
        (Path("/proc/sys/net/ipv6/conf/a/accept_dad")).write_text("0")
        netlink.set_link("a", up=True)
        netlink.add_address("a", "fd00::1/64")
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x86DD)) as listener:
        listener.bind(("b", 0x86DD))
        listener.settimeout(5)
        arp.announce("a", "fd00::1")
        packet = listener.recv(2048)
        while packet[40] != 136:
            packet = listener.recv(2048)
    assert packet[7] == 255
    assert packet[8:24] == ip_address("fd00::1").packed
    assert packet[48:64] == ip_address("fd00::1").packed
    assert packet[64:] == b"\x02\x01" + bytes.fromhex(MAC.replace(":", ""))


def test_announcing_on_no_interface_is_explained() -> None:
    with pytest.raises(NoSuchLink, match=r"announce the address 10\.1\.0\.1 on nope"):
        arp.announce("nope", "10.1.0.1")


def test_mtu_of_a_route_is_the_device_s_or_the_route_s() -> None:
    assert underlay.mtu_of_route("10.1.0.2") == 1400
    assert underlay.mtu_of_route("10.99.0.1") is None
    assert underlay.default_uplink() is None
    with Netlink() as netlink:
        netlink.add_route("10.99.0.0/16", gateway="10.1.0.2", mtu=1300)
        netlink.add_route("0.0.0.0/0", gateway="10.1.0.2", mtu=9000)
    assert underlay.mtu_of_route("10.99.0.1") == 1300
    assert underlay.mtu_of_route("10.98.0.1") == 1400
    assert underlay.default_uplink() == underlay.Uplink("a", 1400)


def test_local_addresses() -> None:
    assert {ip_address("127.0.0.1"), ip_address("10.1.0.1")} <= underlay.local_addresses()


@pytest.mark.parametrize(
    ("cidr", "sentence"),
    [
        ("10.1.0.0/24", "Network 10.1.0.0/24 overlaps with existing route 10.1.0.0/24 on host"),
        ("10.0.0.0/8", "Network 10.0.0.0/8 overlaps with existing route 10.1.0.0/24 on host"),
        ("10.1.0.128/25", "Network 10.1.0.128/25 overlaps with existing route 10.1.0.0/24 on host"),
        ("10.1.0.7/8", "Address 10.1.0.7 overlaps with existing route 10.1.0.0/24 on host"),
        ("10.2.0.7/8", None),
        ("10.2.0.0/16", None),
        ("fd00::/8", None),
    ],
)
def test_overlap_in_weave_s_words(cidr: str, sentence: str | None) -> None:
    with Netlink() as netlink:
        netlink.add_route("0.0.0.0/0", gateway="10.1.0.2")
    assert underlay.overlap(cidr) == sentence
    assert underlay.overlap(cidr, ["a"]) is None


def test_overlap_is_pure_given_routes() -> None:
    route = Route(IPv4Network("10.32.0.0/12"), "weave", None, None, None, True)
    assert underlay.overlap_with(IPv4Interface("10.32.0.0/12"), [route], ["weave"]) is None
    assert underlay.overlap_with(ip_interface("10.40.0.1/12"), [route]) is not None
