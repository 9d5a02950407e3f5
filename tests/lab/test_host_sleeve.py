"""The tap and the UDP sockets: what they are, and the sentences when they cannot be had."""

import errno
import fcntl
import os
import socket
from collections.abc import Iterator

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
from plait.testing.lab import Host, Lab
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
