"""Traffic between containers that the lab has no words for: IPv6, datagrams with content, copies of a broadcast."""

import os
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack
from ipaddress import ip_interface
from typing import Literal

from conformance.member import address, address6
from plait.host.netlink import Netlink
from plait.testing.lab import Container, wait_until

Version = Literal[4, 6]
VERSIONS: tuple[Version, Version] = (4, 6)

_IP_MTU = 14  # linux/in.h
_IP_MTU_DISCOVER, _IP_PMTUDISC_DONT = 10, 0
_IPV6_MTU = 24  # linux/in6.h
_PORT = 7777
_ARRIVAL_SECONDS = 3.0
_TRIES = 10
_STRAGGLERS_SECONDS = 0.2  # a second copy, by whatever way, takes a few milliseconds


def number(container: Container) -> int:
    """What `Member.attach` was given for it."""
    return int(container.name.removeprefix("c"))


def ip(container: Container, version: Version = 4) -> str:
    """Its address on the overlay."""
    written = address(number(container)) if version == 4 else address6(number(container))
    return str(ip_interface(written).ip)


def ping6(source: Container, target: Container, size: int = 56) -> bool:
    """Whether three echo requests over IPv6 are all answered."""
    words = ["ping", "-6", "-q", "-c", "3", "-i", "0.05", "-W", "2", "-s", str(size), ip(target, 6)]
    return source.run(words, check=False).status == 0


def datagram_arrives(source: Container, target: Container, content: bytes, version: Version = 4) -> bool:
    """Whether a datagram, which may be fragmented, arrives unharmed: at once or after the ICMP error for the first."""
    with _udp(target, version) as receiver, _udp(source, version) as sender:
        receiver.bind((ip(target, version), _PORT))
        receiver.settimeout(_ARRIVAL_SECONDS / _TRIES)
        if version == 4:
            sender.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DONT)
        for _ in range(_TRIES):
            sender.sendto(content, receiver.getsockname())
            try:
                return receiver.recv(1 << 16) == content
            except TimeoutError:
                continue
    return False


def known_path_mtu(source: Container, target: Container, version: Version = 4) -> int:
    """What the kernel of the source knows of the path, from the ICMP errors that came."""
    with _udp(source, version) as sock:
        sock.connect((ip(target, version), _PORT))
        if version == 6:
            return sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
        return sock.getsockopt(socket.IPPROTO_IP, _IP_MTU)


def interface_mtu(container: Container) -> int:
    """The MTU of its end."""
    with Netlink(container.path) as netlink:
        link = netlink.link("ethwe")
    assert link is not None
    return link.mtu


def copies(source: Container, targets: Sequence[Container], group: str) -> list[int]:
    """How many copies of one datagram to a broadcast or multicast address each target's interface receives."""
    token = os.urandom(16)
    counts = [0] * len(targets)
    with ExitStack() as stack:
        captures = [stack.enter_context(target.capture("ethwe")) for target in targets]

        def count() -> bool:
            for index, capture in enumerate(captures):
                counts[index] += sum(token in frame for frame in capture.frames())
            return all(counts)

        _send_to_group(source, group, token)
        wait_until(count, f"a datagram to {group} is at {targets}", _ARRIVAL_SECONDS)
        time.sleep(_STRAGGLERS_SECONDS)
        count()
    return counts


def _send_to_group(source: Container, group: str, content: bytes) -> None:
    version: Version = 6 if ":" in group else 4
    with _udp(source, version) as sock:
        if version == 6:
            with source.entered():
                index = socket.if_nametoindex("ethwe")
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        else:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        sock.sendto(content, (group, _PORT))


def _udp(container: Container, version: Version) -> socket.socket:
    with container.entered():
        return socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
