"""Streams between two kernels that exchange single frames: super-frames cut on one side, joined on the other."""

import contextlib
import os
import random
import select
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from plait.host import tap
from plait.host.netlink import Netlink
from plait.overlay.sleeve.cutting import Cutter
from plait.overlay.sleeve.plait1.superframe import layout
from plait.testing.lab import Host, Lab
from plait.testing.lab.fixtures import lab
from unit.overlay.cutters import cutters

__all__ = ["lab"]

CUTTERS = cutters()
TAP = "tap0"
MTU = 1410
STREAM_BYTES = 4_000_000
BURST_FRAMES = 64
ADDRESSES = {socket.AF_INET: "10.32.0.{}", socket.AF_INET6: "fd99::{}"}


@dataclass
class Wire:
    """Carries what two taps give to each other as single frames, in a thread of its own, until it is closed."""

    fds: tuple[int, int]
    cutter: Cutter
    max_payload: int | None = None
    super_frames: int = 0
    joined: int = 0
    frames: int = 0
    longest: int = 0
    refused: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._end, self._ending = os.pipe()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        os.close(self._ending)
        self._thread.join()
        os.close(self._end)

    def _run(self) -> None:
        one, other = self.fds
        while self._end not in (ready := select.select([one, other, self._end], [], [])[0]):
            for fd in ready:
                self._carry(fd, other if fd == one else one)

    def _carry(self, source: int, target: int) -> None:
        frames: list[bytes] = []
        with contextlib.suppress(BlockingIOError):
            while len(frames) < BURST_FRAMES:
                frames += self._frames(os.read(source, 1 << 17))
        self.frames += len(frames)
        self.longest = max(self.longest, *map(len, frames), 0)
        for raw in self.cutter.coalesce(frames):
            self.joined += raw[1] != 0
            try:
                os.write(target, raw)
            except OSError as error:
                self.refused.append(f"{error.strerror}: {raw[:100].hex()}")

    def _frames(self, raw: bytes) -> list[bytes]:
        if not raw[1]:
            return [self.cutter.finish_checksum(raw)]
        self.super_frames += 1
        where = layout(raw)
        assert where is not None, raw[:100].hex()
        return self.cutter.cut(raw, where, self.max_payload if where.is_tcp else None)


@pytest.fixture
def hosts(lab: Lab) -> Iterator[tuple[Host, Host, tuple[int, int]]]:
    """Two hosts with a tap each, that give super-frames."""
    one, other = lab.host("h1"), lab.host("h2")
    fds = []
    try:
        for number, host in enumerate((one, other), 1):
            with host.entered():
                fds.append(tap.open_tap(TAP, tap.SUPER_FRAMES | tap.UDP_SUPER_FRAMES))
                with Netlink() as netlink:
                    netlink.set_link(TAP, mtu=MTU, up=True)
            host.run(["ip", "address", "add", f"10.32.0.{number}/24", "dev", TAP])
            host.run(["ip", "address", "add", f"fd99::{number}/64", "dev", TAP, "nodad"])
        yield one, other, (fds[0], fds[1])
    finally:
        for fd in fds:
            os.close(fd)


def listener(host: Host, family: socket.AddressFamily, address: str, kind: int = socket.SOCK_STREAM) -> socket.socket:
    with host.entered():
        made = socket.socket(family, kind)
    made.settimeout(20)
    made.bind((address, 5201))
    return made


def send_all(sock: socket.socket, payload: bytes) -> None:
    sock.sendall(payload)
    sock.shutdown(socket.SHUT_WR)


def received(sock: socket.socket) -> bytes:
    chunks = []
    while chunk := sock.recv(1 << 20):
        chunks.append(chunk)
    return b"".join(chunks)


def checksum_errors(host: Host) -> dict[str, int]:
    """InCsumErrors and InErrors of TCP and UDP, InHdrErrors of IP."""
    found = {}
    lines = host.run(["cat", "/proc/net/snmp"]).stdout.splitlines()
    for names, values in zip(lines[::2], lines[1::2], strict=True):
        protocol = names.split(":")[0]
        for name, value in zip(names.split()[1:], values.split()[1:], strict=True):
            if name in ("InCsumErrors", "InHdrErrors"):
                found[f"{protocol} {name}"] = int(value)
    return found


@pytest.mark.parametrize("cutter", CUTTERS, ids=lambda cutter: cutter.name)
@pytest.mark.parametrize("max_payload", [None, 700])
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_stream(
    hosts: tuple[Host, Host, tuple[int, int]], cutter: Cutter, max_payload: int | None, family: socket.AddressFamily
) -> None:
    one, other, fds = hosts
    payload = random.Random(3).randbytes(STREAM_BYTES)
    address = ADDRESSES[family].format(2)
    wire = Wire(fds, cutter, max_payload)
    try:
        with listener(other, family, address) as server:
            server.listen()
            with one.entered():
                client = socket.socket(family)
            with client:
                client.settimeout(20)
                client.connect((address, 5201))
                sender = threading.Thread(target=send_all, args=(client, payload))
                sender.start()
                accepted, _ = server.accept()
                with accepted:
                    accepted.settimeout(20)
                    got = received(accepted)
                sender.join()
    finally:
        wire.close()
    assert got == payload
    assert not wire.refused
    assert not any(checksum_errors(other).values())
    assert not any(checksum_errors(one).values())
    assert wire.super_frames
    assert wire.joined
    assert wire.longest <= 14 + MTU


@pytest.mark.parametrize("cutter", CUTTERS, ids=lambda cutter: cutter.name)
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_datagrams(hosts: tuple[Host, Host, tuple[int, int]], cutter: Cutter, family: socket.AddressFamily) -> None:
    one, other, fds = hosts
    size, payload = 1000, random.Random(4).randbytes(20_300)
    address = ADDRESSES[family].format(2)
    wire = Wire(fds, cutter)
    try:
        with listener(other, family, address, socket.SOCK_DGRAM) as server:
            with one.entered():
                client = socket.socket(family, socket.SOCK_DGRAM)
            with client:
                client.setsockopt(socket.IPPROTO_UDP, 103, size)  # UDP_SEGMENT
                client.sendto(payload, (address, 5201))
                got = [server.recv(2000) for _ in range(21)]
    finally:
        wire.close()
    assert b"".join(got) == payload
    assert [len(datagram) for datagram in got] == [size] * 20 + [300]
    assert not any(checksum_errors(other).values())
