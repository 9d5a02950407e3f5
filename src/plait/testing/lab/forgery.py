"""Lies of an attacker: ICMP errors about packets that never met an obstacle."""

import socket
import struct
from pathlib import Path

from plait.host import netns
from plait.testing.lab.checksum import checksum

Endpoint = tuple[str, int]
"""An IPv4 address and a UDP port."""

_UNREACHABLE, _FRAGMENTATION_NEEDED = 3, 4  # RFC 792, RFC 1191
_DF = 0x4000
_UDP = 17
_QUOTED_BYTES = 1500  # the length of the packet that is said not to have fitted


def send_too_big(attacker: Path, victim: Endpoint, far: Endpoint, mtu: int) -> None:
    """Send, from the namespace of an attacker, "fragmentation needed" for a UDP flow from a victim to its far end."""
    with netns.entered(attacker), socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.sendto(too_big(victim, far, mtu), (victim[0], 0))


def too_big(victim: Endpoint, far: Endpoint, mtu: int) -> bytes:
    """The ICMP message, which quotes the IP and UDP headers of a packet from the victim."""
    addresses = socket.inet_aton(victim[0]) + socket.inet_aton(far[0])
    ip = struct.pack("!BBHHHBBH", 0x45, 0, _QUOTED_BYTES, 0, _DF, 64, _UDP, 0) + addresses
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    quoted = ip + struct.pack("!HHHH", victim[1], far[1], _QUOTED_BYTES - len(ip), 0)
    head = struct.pack("!BBHHH", _UNREACHABLE, _FRAGMENTATION_NEEDED, 0, 0, mtu)
    return head[:2] + struct.pack("!H", checksum(head + quoted)) + head[4:] + quoted
