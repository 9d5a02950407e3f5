"""Asking the machines on a link for an address, by frames that are sent and counted one by one.

It works in the network namespace of the calling thread and blocks: call it in a thread, within `netns.entered`.
"""

import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from plait.host.arp import answering_mac, arp_request, neighbour_solicitation
from plait.host.kernel_errors import kernel_error
from plait.host.release import release

_ETH_P_ARP, _ETH_P_IPV6 = 0x0806, 0x86DD
_RIVAL_PATIENCE = 0.1  # seconds that a second owner of the address gets after the first
_FRAME = 2048
_ARP_TABLE = Path("/proc/thread-self/net/arp")  # of the thread's namespace
_COMPLETE = 0x2  # net/if_arp.h ATF_COM


@dataclass(frozen=True, slots=True)
class Answers:
    """How many frames were sent, how many of them were answered, and by which MAC addresses, first come first."""

    asked: int
    answered: int
    macs: tuple[bytes, ...]


def ask(
    interface: str,
    mac: bytes,
    source: IPv4Address | IPv6Address,
    target: IPv4Address | IPv6Address,
    *,
    to: bytes | None,
    count: int,
    patience: float,
) -> Answers:
    """Ask who has `target`; `mac` and `source` are the interface's, the addresses of one family.

    `to` None asks all, `count` times at most until somebody answers; else that machine alone, exactly `count` times.
    Each answer is waited for `patience` seconds. Raise NoSuchLink, PermissionNeeded or KernelRefused.
    """
    if isinstance(source, IPv4Address) and isinstance(target, IPv4Address):
        protocol, frame = _ETH_P_ARP, arp_request(mac, source, target, to)
    elif isinstance(source, IPv6Address) and isinstance(target, IPv6Address):
        protocol, frame = _ETH_P_IPV6, neighbour_solicitation(mac, source, target, to)
    else:
        raise ValueError(f"{source} cannot ask for {target}: they are of two families")
    asked, answered, macs = 0, 0, dict[bytes, None]()
    try:
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(protocol))
        try:
            sock.bind((interface, protocol))
            while asked < count and (to is not None or not macs):
                sock.send(frame)
                asked += 1
                found = _listen(sock, target, patience, is_of_all=to is None)
                answered += bool(found)
                macs |= dict.fromkeys(found)
        finally:
            release(sock.close)
    except OSError as error:
        raise kernel_error(error.errno or 0, f"ask for the address {target} on {interface}") from error
    return Answers(asked, answered, tuple(macs))


def remembered(interface: str, target: IPv4Address | IPv6Address) -> bytes | None:
    """The MAC address that the namespace's kernel remembers of an IPv4 address; None if it does not, or for IPv6."""
    return next((mac for address, mac in all_remembered(interface) if address == target), None)


def all_remembered(interface: str) -> Iterator[tuple[IPv4Address, bytes]]:
    """The IPv4 addresses behind an interface of which the namespace's kernel remembers the MAC address."""
    for line in _ARP_TABLE.read_text().splitlines()[1:]:
        address, _, flags, mac, _, device = line.split()
        if device == interface and int(flags, 16) & _COMPLETE:
            yield IPv4Address(address), bytes.fromhex(mac.replace(":", ""))


def _listen(sock: socket.socket, target: IPv4Address | IPv6Address, patience: float, *, is_of_all: bool) -> list[bytes]:
    """Who answers; of a question to all, listen on for a moment after the first."""
    found: list[bytes] = []
    deadline = time.monotonic() + patience
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([sock], [], [], left)[0]:
            break
        frame, (_, _, kind, *_) = sock.recvfrom(_FRAME)
        mac = None if kind == socket.PACKET_OUTGOING else answering_mac(frame, target)
        if mac is None:
            continue
        found.append(mac)
        if not is_of_all:
            break
        if len(found) == 1:
            deadline = time.monotonic() + _RIVAL_PATIENCE
    return found
