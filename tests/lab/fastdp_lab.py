"""What the kernel's datapath of a node in a lab was told, frames made by hand, and flows that run meanwhile."""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.node_lab import report
from plait.host.bpf.maps import Map
from plait.host.netlink import Netlink
from plait.overlay.fastdp.datapath import pins_of
from plait.overlay.fastdp.tables import DROPS, ID, Conf, NextHop, total_count
from plait.testing.lab import Container, Host, wait_until
from plait.testing.lab.node import Node

MARK = 0x88B5
"""EtherType for local experiments (IEEE 802): no stack answers it."""

BROADCAST = b"\xff" * 6
PATIENCE = 60.0
"""Seconds within which what must happen has happened, on a busy machine."""


def pins(host: Host) -> Path:
    """Where a host's node keeps its maps."""
    return pins_of(Path(f"{host.directory}/state"))


def conf(host: Host) -> Conf:
    with Map.open_pinned(pins(host) / "conf") as found:
        return Conf.unpack(found.lookup(ID.pack(0)) or b"")


def next_hop(host: Host, to: Host) -> NextHop:
    """How frames for another host leave, as the kernel has it."""
    with Map.open_pinned(pins(host) / "nexthops") as found:
        return NextHop.unpack(found.lookup(ID.pack(conf(to).our_id)) or b"")


def drops(host: Host) -> Counter[str]:
    with Map.open_pinned(pins(host) / "drops") as found:
        counts = {reason: found.lookup_per_cpu(ID.pack(number)) or [] for number, reason in enumerate(DROPS)}
    return Counter({reason: total_count(values) for reason, values in counts.items()})


def connection(host: Host, to: Host) -> dict[str, Any]:
    """What a node says of its connection with another; nothing if it has none."""
    found = [each for each in report(host)["Plait"]["Connections"] if each["NickName"] == to.name]
    return dict(found[0]) if found else {}


def wait_for_overlay(host: Host, to: Host, overlay: str) -> dict[str, Any]:
    """Wait until frames go by this overlay, and give what the node says of the connection."""
    said: dict[str, Any] = {}

    def holds() -> bool:
        said.clear()
        said.update(connection(host, to))
        return said.get("Overlay") == overlay and said["EstablishedSince"] is not None

    wait_until(holds, f"{host.name} sends to {to.name} by {overlay}; it says {said}", PATIENCE)
    return said


def wait_for_mesh(*hosts: Host, neighbours: int | None = None) -> None:
    """Wait until each host knows that frames pass between any two: only then do they agree about broadcasts.

    `neighbours`: of each host, if they are not all the others.
    """

    def knows_all(host: Host) -> bool:
        links = [len([c for c in p["Connections"] if c["Established"]]) for p in report(host)["Router"]["Peers"]]
        return links == [neighbours or len(hosts) - 1] * len(hosts)

    for host in hosts:
        wait_until(lambda host=host: knows_all(host), f"{host.name} knows the mesh", PATIENCE)  # type: ignore[misc]


def attach(host: Host, container: Container, number: int) -> Container:
    """Give a container 10.32.0.number and fd00::number."""
    host.attach(container, f"10.32.0.{number}/12", f"fd00::{number}/64")
    return container


def mac_of(node: Node, device: str = "ethwe") -> bytes:
    with Netlink(node.path) as netlink:
        link = netlink.link(device)
    assert link is not None
    return bytes.fromhex(link.mac.replace(":", ""))


def frame(destination: bytes, source: bytes, text: bytes, kind: int = MARK) -> bytes:
    return destination + source + struct.pack("!H", kind) + text.ljust(46, b"\0")


def send_frames(node: Node, *frames: bytes, device: str = "ethwe") -> list[OSError]:
    """Send frames as they are; gives the errors of those that the sender's own kernel refused."""
    refused = []
    with node.entered():
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    with sock:
        sock.bind((device, 0))
        for each in frames:
            try:
                sock.send(each)
            except OSError as error:
                refused.append(error)
    return refused


class Arrivals:
    """Frames that come in at nodes while the block runs, by the text in them."""

    def __init__(self, *nodes: Node, device: str = "ethwe") -> None:
        self._socks: dict[str, socket.socket] = {}
        self._seen: dict[str, Counter[bytes]] = {}
        for node in nodes:
            with node.entered():
                sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(MARK))
            sock.setblocking(False)
            sock.bind((device, MARK))
            # All groups, whatever the interface subscribed to (linux/if_packet.h: PACKET_ADD_MEMBERSHIP, promiscuous).
            index = sock.getsockname()[0]
            with node.entered():
                sock.setsockopt(263, 1, struct.pack("iHH8s", socket.if_nametoindex(index), 1, 0, bytes(8)))
            self._socks[_name(node)], self._seen[_name(node)] = sock, Counter()

    def __enter__(self) -> "Arrivals":
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._socks.values():
            sock.close()

    @property
    def names(self) -> set[str]:
        """The nodes."""
        return set(self._socks)

    def of(self, text: bytes) -> dict[str, int]:
        """How often a text has come in at each node where it has."""
        for name, sock in self._socks.items():
            while True:
                try:
                    data, address = sock.recvfrom(1 << 16)
                except BlockingIOError:
                    break
                if address[2] != 4:  # PACKET_OUTGOING
                    self._seen[name][data[14:].rstrip(b"\0")] += 1
        return {name: seen[text] for name, seen in self._seen.items() if seen[text]}


def broadcasts_arrive_once(*containers: Container, groups: tuple[bytes, ...] = (BROADCAST,)) -> None:
    """What each sends to groups comes out once at each other; its own port is in hairpin mode and gives it back."""
    names = {_name(each) for each in containers}
    sent = [
        (each, group, b"%s %s" % (_name(each).encode(), group.hex().encode()))
        for each in containers
        for group in groups
    ]
    with Arrivals(*containers) as arrivals:

        def elsewhere(sender: Container, text: bytes) -> dict[str, int]:
            return {name: count for name, count in arrivals.of(text).items() if name != _name(sender)}

        for sender, group, text in sent:
            send_frames(sender, frame(group, mac_of(sender), text))
            wanted = names - {_name(sender)}
            wait_until(lambda: elsewhere(sender, text).keys() == wanted, f"{text!r} comes out everywhere")  # noqa: B023
        time.sleep(0.5)  # for what comes twice
        for sender, _, text in sent:
            found = elsewhere(sender, text)
            assert found == dict.fromkeys(names - {_name(sender)}, 1), (text, found)


def _name(node: Node) -> str:
    return f"{node.host.name}/{node.name}" if isinstance(node, Container) else node.name


class Stream:
    """One TCP connection that sends numbers without end and checks that they come in order."""

    def __init__(self, client: Node, server: Node) -> None:
        with server.entered():
            self._listener = socket.create_server((server.ip, 0))
        with client.entered():
            self._sender = socket.socket()
        self._sender.settimeout(PATIENCE)
        self._sender.connect(self._listener.getsockname())
        self._receiver, _ = self._listener.accept()
        self._receiver.settimeout(PATIENCE)
        self._is_over = threading.Event()
        self.received = 0
        self.error: str | None = None
        self._threads = [threading.Thread(target=each, daemon=True) for each in (self._send, self._receive)]
        for thread in self._threads:
            thread.start()

    def goes_on(self) -> None:
        """Wait until more has come in than now."""
        before = self.received

        def moved() -> bool:
            assert self.error is None, self.error
            return self.received > before + 2

        wait_until(moved, "the TCP stream goes on", PATIENCE)

    def close(self) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        for sock in (self._sender, self._receiver, self._listener):
            sock.close()
        assert self.error is None, self.error

    def _send(self) -> None:
        number = 0
        try:
            while not self._is_over.is_set():
                self._sender.sendall(struct.pack("!Q", number) * 500)
                number += 1
                time.sleep(0.002)
            self._sender.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.error = f"sending: {error}"

    def _receive(self) -> None:
        try:
            with self._receiver.makefile("rb") as file:
                while block := file.read(4000):
                    if block != struct.pack("!Q", self.received) * 500:
                        self.error = f"wrong bytes in block {self.received}"
                        return
                    self.received += 1
        except OSError as error:
            self.error = f"receiving: {error}"


@contextmanager
def streaming(client: Node, server: Node) -> Iterator[Stream]:
    stream = Stream(client, server)
    try:
        yield stream
    finally:
        stream.close()


@contextmanager
def pinging(node: Node, to: Node) -> Iterator[Callable[[], tuple[int, int]]]:
    """Ping a thousand times a second; the function ends it and gives how many were sent and answered."""
    is_over = threading.Event()
    totals = [0, 0]

    def run() -> None:
        while not is_over.is_set():
            result = node.ping(to, count=500, interval=0.001, timeout=2.0)
            totals[0] += result.sent
            totals[1] += result.received

    thread = threading.Thread(target=run, daemon=True)

    def end() -> tuple[int, int]:
        is_over.set()
        thread.join(PATIENCE)
        return totals[0], totals[1]

    thread.start()
    try:
        yield end
    finally:
        end()
