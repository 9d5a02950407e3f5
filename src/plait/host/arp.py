"""ARP and neighbour discovery: telling the neighbours that an address lives here now, and the frames that ask for one.

`announce` works in the network namespace of the calling thread, and waits for no answer (asking.py does).
"""

import errno
import fcntl
import socket
import struct
import time
from ipaddress import IPv4Address, IPv6Address, ip_address

from plait.host.kernel_errors import kernel_error
from plait.host.release import release

_ETH_P_ARP = 0x0806
_ETH_P_IPV6 = 0x86DD
_SIOCGIFHWADDR = 0x8927  # linux/sockios.h
_IFNAMSIZ = 16
_BROADCAST = b"\xff" * 6
_NEIGHBOUR_SOLICITATION, _NEIGHBOUR_ADVERTISEMENT = 135, 136  # RFC 4861 sections 4.3 and 4.4
_SOLICITED_NODE = IPv6Address("ff02::1:ff00:0").packed[:13]
_OVERRIDE = 0x20000000
_SOURCE_LINK_LAYER_ADDRESS, _TARGET_LINK_LAYER_ADDRESS = 1, 2
_HOP_LIMIT = 255  # RFC 4861 section 7.1: receivers discard any other
# Until the kernel has noticed the carrier of an interface, IPv6 can use neither its addresses nor a multicast route
# there. For a veth whose other end happens to have its own number that takes up to a second (linkwatch_urgent_event).
_NOT_READY = (errno.EADDRNOTAVAIL, errno.ENETUNREACH)
_READY_PATIENCE, _READY_POLL = 2.0, 0.002  # seconds


def announce(interface: str, address: str | IPv4Address | IPv6Address) -> None:
    """Announce an address of an interface that is up. Raise NoSuchLink, PermissionNeeded or KernelRefused."""
    address = ip_address(address)
    try:
        mac = _mac(interface)
        if isinstance(address, IPv4Address):
            _send_arp(interface, gratuitous_arp(mac, address))
        else:
            _send_advertisement(interface, address, neighbour_advertisement(mac, address))
    except OSError as error:
        raise kernel_error(error.errno or 0, f"announce the address {address} on {interface}") from error


def gratuitous_arp(mac: bytes, address: IPv4Address) -> bytes:
    """The Ethernet frame: an ARP request for the sender's own address (RFC 5227 section 2.3)."""
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    body = head + mac + address.packed + bytes(6) + address.packed
    return _BROADCAST + mac + struct.pack("!H", _ETH_P_ARP) + body


def neighbour_advertisement(mac: bytes, address: IPv6Address) -> bytes:
    """The ICMPv6 message, its checksum left to the kernel."""
    head = struct.pack("!BBHI", _NEIGHBOUR_ADVERTISEMENT, 0, 0, _OVERRIDE)
    return head + address.packed + bytes((_TARGET_LINK_LAYER_ADDRESS, 1)) + mac


def arp_request(mac: bytes, source: IPv4Address, target: IPv4Address, to: bytes | None = None) -> bytes:
    """The Ethernet frame that asks who has an address; `to`: of this machine alone, else of all (RFC 826)."""
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    body = head + mac + source.packed + bytes(6) + target.packed
    return (to or _BROADCAST) + mac + struct.pack("!H", _ETH_P_ARP) + body


def neighbour_solicitation(mac: bytes, source: IPv6Address, target: IPv6Address, to: bytes | None = None) -> bytes:
    """The Ethernet frame that asks who has an address; `to`: of this machine alone, else of all (RFC 4861, 4.3)."""
    destination = target.packed if to else _SOLICITED_NODE + target.packed[-3:]
    message = struct.pack("!BBHI", _NEIGHBOUR_SOLICITATION, 0, 0, 0) + target.packed
    message += bytes((_SOURCE_LINK_LAYER_ADDRESS, 1)) + mac
    pseudo = source.packed + destination + struct.pack("!II", len(message), socket.IPPROTO_ICMPV6)
    message = message[:2] + struct.pack("!H", _checksum(pseudo + message)) + message[4:]
    head = struct.pack("!IHBB", 6 << 28, len(message), socket.IPPROTO_ICMPV6, _HOP_LIMIT)
    ethernet = (to or b"\x33\x33" + destination[-4:]) + mac + struct.pack("!H", _ETH_P_IPV6)
    return ethernet + head + source.packed + destination + message


def answering_mac(frame: bytes, target: IPv4Address | IPv6Address) -> bytes | None:
    """The MAC address of who answers in this Ethernet frame that it has `target`; None if the frame is no such answer.

    An IPv6 answer may leave it out: then it is the frame's sender.
    """
    if isinstance(target, IPv4Address):
        is_reply = len(frame) >= 42 and frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2"
        return frame[22:28] if is_reply and frame[28:32] == target.packed else None
    is_advertisement = (
        len(frame) >= 78
        and frame[12:14] == b"\x86\xdd"
        and frame[20] == socket.IPPROTO_ICMPV6
        and frame[54] == _NEIGHBOUR_ADVERTISEMENT
    )
    if not is_advertisement or frame[62:78] != target.packed:
        return None
    has_option = len(frame) >= 86 and frame[78:80] == bytes((_TARGET_LINK_LAYER_ADDRESS, 1))
    return frame[80:86] if has_option else frame[6:12]


def _checksum(data: bytes) -> int:
    """Of the Internet (RFC 1071); `data` has an even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _mac(interface: str) -> bytes:
    # By ioctl: closing a packet socket, which could tell it too, waits some 15 ms for a grace period of the kernel.
    request = struct.pack("16s24x", interface.encode()[:_IFNAMSIZ])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return fcntl.ioctl(probe, _SIOCGIFHWADDR, request)[18:24]


def _send_arp(interface: str, frame: bytes) -> None:
    sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        sender.bind((interface, 0))
        sender.send(frame)
    finally:
        release(sender.close)


def _send_advertisement(interface: str, address: IPv6Address, message: bytes) -> None:
    index = socket.if_nametoindex(interface)
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as sender:
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOP_LIMIT)
        sender.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        source = (str(address), 0, 0, index if address.is_link_local else 0)
        deadline = time.monotonic() + _READY_PATIENCE
        while True:
            try:
                sender.bind(source)
                sender.sendto(message, ("ff02::1", 0, 0, index))
                return
            except OSError as error:
                if error.errno not in _NOT_READY or time.monotonic() > deadline:
                    raise
            time.sleep(_READY_POLL)
