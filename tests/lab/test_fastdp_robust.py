"""Odd and hostile frames, from containers and from the underlay, against the datapath in the kernel."""

import random
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from lab.fastdp_lab import (
    BROADCAST,
    MARK,
    PATIENCE,
    Arrivals,
    attach,
    broadcasts_arrive_once,
    conf,
    drops,
    frame,
    mac_of,
    next_hop,
    send_frames,
    wait_for_overlay,
)
from lab.node_lab import check_logs
from plait.host.netlink import Netlink
from plait.mesh.shortids import SHORT_IDS
from plait.overlay.fastdp.wire import pack_vni, vxlan_header
from plait.testing.lab import Container, Host, Lab, wait_until
from plait.testing.lab.checksum import checksum
from plait.testing.lab.features import missing_features
from plait.testing.lab.node import Node

VXLAN = 6784
_WARNINGS = ("WARNING:", "BUG:", "Oops", "unregister_netdevice", "skb_warn_bad_offload", "general protection")


@dataclass
class Net:
    """Two nodes, the first with two containers; one in user space only; a host that belongs to nobody."""

    one: Host
    other: Host
    stranger: Host
    first: Container
    second: Container
    far: Container
    slow: Container

    def works(self) -> None:
        """Frames pass between all, in the kernel."""
        for near, to in ((self.first, self.far), (self.far, self.second), (self.first, self.second)):
            wait_until(lambda near=near, to=to: near.ping(to, count=1).ok, "frames pass", PATIENCE)  # type: ignore[misc]
            assert near.ping(to, count=20).ok
        wait_for_overlay(self.one, self.other, "fastdp")
        wait_for_overlay(self.other, self.one, "fastdp")

    def vni(self, source: Host, destination: Host) -> int:
        return pack_vni(conf(source).our_id, conf(destination).our_id)


@pytest.fixture(scope="module")
def net() -> Iterator[Net]:
    if missing := missing_features():
        pytest.skip("; ".join(missing))
    with Lab() as lab:
        one, other, slow, stranger = (lab.host(name) for name in ("one", "other", "slow", "stranger"))
        one.launch()
        other.launch(one)
        slow.launch(one, extra=["--overlays", "plait1"])
        first, second = attach(one, one.container("c1"), 1), attach(one, one.container("c2"), 2)
        far, by_pump = attach(other, other.container("c"), 3), attach(slow, slow.container("c"), 4)
        made = Net(one, other, stranger, first, second, far, by_pump)
        made.works()
        one.plait("expose", "10.32.0.100/12")
        yield made
        check_logs(lab)


@pytest.fixture(autouse=True)
def quiet(net: Net) -> Iterator[None]:
    """The network works after each test, and the kernel had nothing to warn of."""
    before = kernel_warnings()
    yield
    net.works()
    broadcasts_arrive_once(net.first, net.second, net.far)
    assert kernel_warnings() == before


def kernel_warnings() -> list[str]:
    said = subprocess.run(["dmesg"], capture_output=True, text=True, check=True).stdout
    return [line for line in said.splitlines() if any(word in line for word in _WARNINGS)]


def send_vxlan(sender: Node, to: str, vni: int, inner: bytes, *, flags: int = 8, reserved: int = 0) -> None:
    header = bytearray(vxlan_header(vni))
    header[0], header[7] = flags, reserved
    with sender.entered():
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        sock.sendto(bytes(header) + inner, (to, VXLAN))


def dropped(host: Host, reason: str, before: int, count: int = 1) -> None:
    wait_until(lambda: drops(host)[reason] >= before + count, f"{host.name} counts {count} of {reason}: {drops(host)}")


def nowhere(arrivals: Arrivals, net: Net, *texts: bytes) -> None:
    """None of these came out, although what was sent after them has."""
    end = b"end %d" % random.getrandbits(40)
    send_frames(net.far, frame(BROADCAST, mac_of(net.far), end))
    wait_until(lambda: arrivals.of(end).keys() == arrivals.names, "the last frame comes out")
    for text in texts:
        assert arrivals.of(text) == {}, text


def test_frames_that_imitate_heartbeats(net: Net) -> None:
    before = drops(net.one)["forged"]
    send_frames(net.first, *[bytes(size) for size in (14, 60, 1000)])
    dropped(net.one, "forged", before, 3)


def test_runts(net: Net) -> None:
    """A socket lets nothing pass that has no whole Ethernet header."""
    for destination in (BROADCAST, mac_of(net.far), mac_of(net.second), mac_of(net.one, "weave")):
        header = destination + mac_of(net.first)
        assert send_frames(net.first, header[:3], header[:12], header + b"\x08")
        for kind in (0x0800, 0x86DD, 0x0806, MARK, 0x88A8, 0x8100, 4):
            send_frames(net.first, header + struct.pack("!H", kind), header + struct.pack("!H", kind) + b"\x45")


def test_random_frames(net: Net) -> None:
    rng = random.Random(7)
    targets = [BROADCAST, mac_of(net.far), mac_of(net.second), mac_of(net.one, "weave"), bytes.fromhex("333300000001")]
    kinds = (0x0800, 0x86DD, 0x0806, 0x8100, 0x88A8, 0x8847, 0x22F0)
    for _ in range(500):
        head = rng.choice(targets) + mac_of(net.first) + struct.pack("!H", rng.choice(kinds))
        body = bytearray(rng.randbytes(rng.choice((0, 1, 19, 20, 40, 60, 1400))))
        if body and rng.random() < 0.7:
            body[0] = rng.choice((0x45, 0x4F, 0x40, 0x60))
        send_frames(net.first, head + bytes(body))


def test_spanning_tree_stays_here(net: Net) -> None:
    with Arrivals(net.first, net.far) as arrivals:
        send_frames(net.second, frame(bytes.fromhex("0180c200000e"), mac_of(net.second), b"link local"))
        nowhere(arrivals, net, b"link local")


@pytest.mark.parametrize("tag", [0x8100, 0x88A8])
def test_tagged_frames(net: Net, tag: int) -> None:
    """They come out as they went in, or not at all; short ids of a container's own making mean nothing."""
    ids = struct.pack("!HHH", conf(net.other).our_id, tag, conf(net.one).our_id)
    texts = {}
    with Arrivals(net.first, net.second, net.far) as arrivals:
        for destination, owners in (
            (BROADCAST, {"one/c1", "one/c2", "other/c"}),
            (mac_of(net.far), {"other/c"}),
            (mac_of(net.second), {"one/c2"}),
        ):
            for tags in (struct.pack("!H", 5), ids):
                text = f"{destination.hex()} {tags.hex()}".encode()
                inner = tags + struct.pack("!H", MARK) + text.ljust(46, b"\0")
                send_frames(net.first, destination + mac_of(net.first) + struct.pack("!H", tag) + inner)
                texts[text] = owners
        nowhere(arrivals, net)
        for text, owners in texts.items():
            assert arrivals.of(text).keys() <= owners, text


def test_nobody_takes_the_address_of_a_container_elsewhere(net: Net) -> None:
    stolen = mac_of(net.far)
    net.works()
    with Arrivals(net.first, net.far) as arrivals:
        for number in range(20):
            text = b"to the owner %d" % number
            send_frames(net.first, frame(BROADCAST, stolen, b"theft"))
            send_frames(net.second, frame(stolen, mac_of(net.second), text))
            wait_until(lambda text=text: arrivals.of(text) == {"other/c": 1}, "it reaches the owner")  # type: ignore[misc]


def test_nobody_takes_the_address_of_a_container_here(net: Net) -> None:
    stolen = mac_of(net.second)
    with Arrivals(net.first, net.second, net.far) as arrivals:
        for number, thief in enumerate((net.first, net.far) * 5):
            send_frames(thief, frame(BROADCAST, stolen, b"theft"))
            text = b"to the owner %d" % number
            send_frames(net.far if thief is net.first else net.first, frame(stolen, mac_of(thief), text))
            wait_until(lambda text=text: arrivals.of(text) == {"one/c2": 1}, "it reaches the owner")  # type: ignore[misc]


def test_vxlan_of_hosts_that_are_no_neighbours(net: Net) -> None:
    before = drops(net.one)["foreign"]
    with Arrivals(net.first, net.second) as arrivals:
        for destination in (mac_of(net.first), BROADCAST, mac_of(net.one, "weave")):
            inner = frame(destination, mac_of(net.far), b"from a stranger")
            send_vxlan(net.stranger, net.one.ip, net.vni(net.other, net.one), inner)
        nowhere(arrivals, net, b"from a stranger")
    dropped(net.one, "foreign", before, 3)


def test_vxlan_of_a_neighbour_with_odd_labels(net: Net) -> None:
    us, them = conf(net.one).our_id, conf(net.other).our_id
    unused = next(number for number in range(1, SHORT_IDS) if number not in (us, them))
    inner = frame(mac_of(net.first), mac_of(net.far), b"odd labels")
    with Arrivals(net.first, net.second, net.far) as arrivals:
        for vni, reason in (
            (pack_vni(us, us), "echo"),
            (pack_vni(them, unused), "no_route"),
            (pack_vni(unused, them), "returned"),
        ):
            before = drops(net.one)[reason]
            send_vxlan(net.other, net.one.ip, vni, inner)
            dropped(net.one, reason, before)
        nowhere(arrivals, net, b"odd labels")
        heartbeat = drops(net.one)["forged"]
        send_vxlan(net.other, net.one.ip, pack_vni(them, unused), bytes(60))
        dropped(net.one, "forged", heartbeat)
        for size in (0, 1, 13):
            send_vxlan(net.other, net.one.ip, pack_vni(them, us), inner[:size])
        send_vxlan(net.other, net.one.ip, pack_vni(them, us), inner[:14])


@pytest.mark.parametrize(("flags", "reserved"), [(0, 0), (0xFF, 0), (0x88, 0), (8, 1), (8, 0xFF)])
def test_reserved_bits(net: Net, flags: int, reserved: int) -> None:
    inner = frame(mac_of(net.first), mac_of(net.far), b"reserved bits")
    with Arrivals(net.first, net.second) as arrivals:
        send_vxlan(net.other, net.one.ip, net.vni(net.other, net.one), inner, flags=flags, reserved=reserved)
        nowhere(arrivals, net, b"reserved bits")


def test_fragments(net: Net) -> None:
    """A packet that came in pieces is put together by the kernel and taken, but never by another container."""
    inner = frame(mac_of(net.first), mac_of(net.far), b"in pieces") + bytes(4000)
    with Arrivals(net.first, net.second) as arrivals:
        send_vxlan(net.other, net.one.ip, net.vni(net.other, net.one), inner)
        wait_until(lambda: arrivals.of(b"in pieces") in ({"one/c1": 1},), "it comes out")
        assert arrivals.of(b"in pieces") == {"one/c1": 1}


def udp_packet(source: str, destination: str, payload: bytes) -> bytes:
    ends = socket.inet_aton(source) + socket.inet_aton(destination)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 28 + len(payload), 1, 0, 64, 17, 0) + ends
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return ip + struct.pack("!HHHH", 50000, VXLAN, 8 + len(payload), 0) + payload


@pytest.mark.parametrize("sender", ["first", "far", "slow"])
@pytest.mark.parametrize("tags", [0, 1, 2])
def test_a_container_cannot_send_vxlan_as_a_host(net: Net, sender: str, tags: int) -> None:
    """To the port of a node itself, under the address of its neighbour, also behind tags that the host strips."""
    container: Container = getattr(net, sender)
    victim, claimed = net.one, net.other
    inner = frame(mac_of(net.second), mac_of(net.far), b"from a container")
    packet = vxlan_header(net.vni(claimed, victim)) + inner
    before = drops(net.one)
    with Netlink(net.one.path) as netlink:
        ports = [bytes.fromhex(port.mac.replace(":", "")) for port in netlink.ports("weave")]
    with Arrivals(net.second) as arrivals:
        for mac in (mac_of(net.one, "weave"), BROADCAST, *ports):
            for to in (victim.ip, "10.32.0.100"):
                head = mac + mac_of(container) + b"\x81\x00\x00\x00" * tags + b"\x08\x00"
                data = head + udp_packet(claimed.ip, to, packet)
                send_frames(container, data)
        container.run(["ping", "-c1", "-W2", "10.32.0.100"])
        send_vxlan(container, "10.32.0.100", net.vni(claimed, victim), inner)
        dropped(net.one, "foreign", before["foreign"])
        dropped(net.one, "forged", before["forged"], 4)
        nowhere(arrivals, net, b"from a container")


@pytest.mark.timeout(300)
def test_a_flood_of_addresses_evicts_no_container(net: Net) -> None:
    base = int.from_bytes(bytes.fromhex("020000000000"), "big")
    with net.first.entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sock:
        sock.bind(("ethwe", 0))
        to = mac_of(net.far)
        for number in range(100_000):
            sock.send(to + (base + number).to_bytes(6, "big") + b"\x88\xb5" + bytes(46))
            if number % 20_000 == 0:
                assert net.second.ping(net.far, count=5).ok
    assert net.second.ping(net.far, count=50).ok
    assert net.far.ping(net.first, count=50).ok
    assert next_hop(net.one, net.other).hop == conf(net.other).our_id
