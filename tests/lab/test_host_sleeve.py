"""The tap and the UDP sockets: what they are, and the sentences when they cannot be had."""

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from plait.errors import (
    AddressInUse,
    AlreadyRunning,
    KernelLacks,
    KernelRefused,
    PermissionNeeded,
    UsageError,
)
from plait.host import tap, udp
from plait.host.netlink import Netlink
from plait.testing.lab import Host, Lab, wait_until
from plait.testing.lab.fixtures import lab

__all__ = ["lab"]

PORT = 6783


@pytest.fixture
def host(lab: Lab) -> Iterator[Host]:
    made = lab.host("h1")
    with made.entered():
        yield made


def test_a_tap_lives_as_long_as_its_descriptor(host: Host) -> None:
    fd = tap.open_tap("tap0")
    with Netlink() as netlink:
        link = netlink.link("tap0")
        assert link is not None
        assert link.kind == "tun"
        os.close(fd)
        assert netlink.link("tap0") is None


def test_frames_of_a_tap_have_a_header(host: Host) -> None:
    fd = tap.open_tap("tap0")
    try:
        with Netlink() as netlink:
            netlink.set_link("tap0", up=True)
        with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as sock:
            sock.bind(("tap0", 0))
            frame = b"\xff" * 6 + bytes.fromhex("02000000000188b5") + bytes(50)
            sock.send(frame)
        while (got := os.read(fd, 2000))[tap.VNET_HEADER.size :] != frame:
            pass  # What the kernel itself says on a new link.
        assert got[: tap.VNET_HEADER.size] == bytes(tap.VNET_HEADER.size)
        assert not os.get_blocking(fd)
    finally:
        os.close(fd)


def test_a_second_reader_is_refused(host: Host) -> None:
    fd = tap.open_tap("tap0")
    try:
        with pytest.raises(AlreadyRunning, match="tap0"):
            tap.open_tap("tap0")
    finally:
        os.close(fd)


def test_a_link_of_another_kind_has_the_name(host: Host) -> None:
    with Netlink() as netlink:
        netlink.create_bridge("tap0")
    with pytest.raises(KernelRefused, match="ip link delete tap0"):
        tap.open_tap("tap0")


@pytest.mark.parametrize("name", ["", "sixteen-letters-", "\N{SNOWMAN}" * 6])
def test_impossible_names(name: str) -> None:
    with pytest.raises(UsageError):
        tap.open_tap(name)


def test_no_tun_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tap, "DEVICE", "/dev/net/nothing")
    with pytest.raises(KernelLacks, match="modprobe tun"):
        tap.open_tap("tap0")


@pytest.mark.parametrize("number", [errno.EPERM, errno.EACCES])
def test_no_right_to_make_a_tap(host: Host, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "ioctl", refuse)
    with pytest.raises(PermissionNeeded, match="root"):
        tap.open_tap("tap0")


def test_sockets_have_what_sleeve_needs(host: Host) -> None:
    with udp.open_sleeve_sockets("", PORT) as sockets:
        discover = [sock.getsockopt(socket.IPPROTO_IP, udp.IP_MTU_DISCOVER) for sock in (sockets.plain, sockets.df)]
        assert discover == [udp.IP_PMTUDISC_DONT, udp.IP_PMTUDISC_DO]
        for sock in (sockets.plain, sockets.df):
            assert sock.type == socket.SOCK_DGRAM
            assert sock.getsockname() == ("0.0.0.0", PORT)
            assert not sock.getblocking()
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) >= udp.RECEIVE_BUFFER_BYTES
            assert udp.receive_drops(sock) == 0


def test_both_versions_of_ip_have_sockets_of_their_own(host: Host) -> None:
    with ExitStack() as stack:
        four, six = [stack.enter_context(each) for each in udp.open_all_sleeve_sockets("", PORT)]
        assert (four.is_ipv6, six.is_ipv6) == (False, True)
        assert six.df.getsockopt(socket.IPPROTO_IPV6, udp.IPV6_MTU_DISCOVER) == udp.IP_PMTUDISC_DO
        assert six.plain.getsockname()[:2] == ("::", PORT)
        assert udp.of_version([four, six], "fd00::1") is six
        assert udp.of_version([four, six], "192.0.2.1") is four
        with pytest.raises(OSError, match="family"):
            udp.of_version([four], "fd00::1")
        with pytest.raises(AddressInUse):
            udp.open_all_sleeve_sockets("::1", PORT)


def test_a_neighbour_on_ipv6_has_a_socket_of_its_own(lab: Lab) -> None:
    wire = lab.switch(ipv6=True)
    one, other = lab.host("h1", on=[wire]), lab.host("h2", on=[wire])
    with ExitStack() as stack:
        found = []
        for here, there in ((one, other), (other, one)):
            with here.entered():
                (sockets,) = [stack.enter_context(each) for each in udp.open_all_sleeve_sockets(here.ip, PORT)]
                found.append(stack.enter_context(udp.open_peer_socket(sockets, here.ip, PORT, (there.ip, PORT))))
        near, far = found
        segments = (udp.SOL_UDP, udp.UDP_SEGMENT, struct.pack("=H", 1452))
        near.sendmsg([bytes(1452 * 20 + 7)], [segments])
        far.setblocking(True)
        far.settimeout(10)
        sizes = 0
        while sizes < 1452 * 20 + 7:
            data, _, _, source = far.recvmsg(1 << 16, 64)
            sizes += len(data)
            assert source[:2] == (one.ip, PORT)
        with pytest.raises(OSError, match="too long"):
            near.send(bytes(1453))
        with one.entered():
            assert udp.path_mtu(one.ip, other.ip) == lab.mtu


def test_what_a_router_says_of_an_ipv6_path_is_read(lab: Lab) -> None:
    left, middle, right = lab.switch(ipv6=True), lab.switch(ipv6=True, mtu=1400), lab.switch(ipv6=True)
    lab.router("r1", left, middle)
    lab.router("r2", middle, right)
    one, other = lab.host("h1", on=[left]), lab.host("h2", on=[right])
    heard: list[int | None] = []
    with (
        one.entered(),
        udp.open_sleeve_sockets(one.ip, PORT) as sockets,
        udp.open_peer_socket(sockets, one.ip, PORT, (other.ip, PORT)) as sock,
    ):

        def told() -> bool:
            with suppress(OSError):  # what the router said is told with the next datagram
                sock.send(bytes(1452))
            heard.extend(error.mtu for error in udp.icmp_errors(sock))
            return 1400 in heard

        wait_until(told, "the router's answer comes")


@pytest.mark.parametrize("address", ["", "127.0.0.1"])
@pytest.mark.parametrize("shares", [False, True], ids=["alone", "sharing"])
def test_a_port_that_somebody_has(host: Host, address: str, shares: bool) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
        foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shares))
        foreign.bind((address, PORT))
        with pytest.raises(AddressInUse, match=rf"{PORT}.*--port"):
            udp.open_sleeve_sockets("", PORT)


def test_nobody_joins_a_port_of_ours(host: Host) -> None:
    with udp.open_sleeve_sockets("", PORT):
        with pytest.raises(AddressInUse):
            udp.open_sleeve_sockets("127.0.0.1", PORT)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as foreign:
            foreign.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            with pytest.raises(OSError, match="in use"):
                foreign.bind(("", PORT))
    with udp.open_sleeve_sockets("", PORT):
        pass


def test_an_address_that_is_not_ours(host: Host) -> None:
    with pytest.raises(UsageError, match="--host"):
        udp.open_sleeve_sockets("192.0.2.1", PORT)


def test_path_mtu_is_that_of_the_way(lab: Lab) -> None:
    one, other = lab.host("h1"), lab.host("h2")
    here, there = one.ip, other.ip
    with one.entered(), one.capture(one.ports[0].device) as capture:
        assert udp.path_mtu(here, there) == lab.mtu
        lab.set_mtu(one, 1300)
        assert udp.path_mtu(here, there) == 1300
        for local, remote in (("192.0.2.1", there), (here, "192.0.2.1")):
            with pytest.raises(OSError, match=r"address|unreachable"):
                udp.path_mtu(local, remote)
        sent = [frame for frame in capture.frames() if frame[12:14] == b"\x08\x00"]
    assert sent == []
