"""Sleeve's UDP sockets, ICMP errors about them, the kernel's path MTU. Never raw sockets (spec: ufo-bug).

It opens and configures; what is sent and received is the pump's business.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Self

from plait.errors import AddressInUse, KernelRefused, PermissionNeeded, PlaitError, UsageError

IP_MTU_DISCOVER = 10
IP_PMTUDISC_DONT = 0
IP_PMTUDISC_DO = 2
IP_PMTUDISC_PROBE = 3
IP_RECVERR = 11
IP_MTU = 14
IP_PKTINFO = 8
IPV6_MTU_DISCOVER = 23
IPV6_MTU = 24
IPV6_RECVERR = 25
IPV6_PKTINFO = 50
MSG_ERRQUEUE = 0x2000
SOL_UDP = 17
UDP_SEGMENT = 103
UDP_GRO = 104
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33
SO_MEMINFO = 55

RECEIVE_BUFFER_BYTES = 16 << 20
"""Of each socket: some 6000 full datagrams, 0.2 s of traffic at 0.5 Gbit/s should the pump not run that long."""

SEND_BUFFER_BYTES = 4 << 20
"""Of each socket: what may wait in the interface's queue before datagrams are dropped here."""

_PKTINFO = Struct("=i4s4s")
_PKTINFO6 = Struct("=16si")
_PORT = Struct(">H")
_SOCKADDR = Struct("=H2s4s8x")
_SOCKADDR6 = Struct("=H2sI16sI")
_EXTENDED_ERROR = Struct("=IBBBBII")
"""struct sock_extended_err: errno, origin, type, code, padding, info, data."""

_ERROR_BYTES = 512
_FRAGMENTATION_NEEDED = (2, 3, 4)
"""SO_EE_ORIGIN_ICMP, ICMP type and code."""

_PACKET_TOO_BIG = (3, 2, 0)
"""SO_EE_ORIGIN_ICMP6, ICMPv6 type and code."""

_ERROR_KINDS = ((socket.IPPROTO_IP, IP_RECVERR), (socket.IPPROTO_IPV6, IPV6_RECVERR))

_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""What a kernel without IPv6 says to a socket of it, or to its first bind."""

_MEMINFO = Struct("=9I")


@dataclass(frozen=True, slots=True)
class SleeveSockets:
    """Two of one version of IP, bound to one address and port. Both must be read: a datagram may come in on either."""

    plain: socket.socket
    """Sends datagrams that may be fragmented."""
    df: socket.socket
    """Sends datagrams with DF set; the kernel refuses those above the path MTU (EMSGSIZE)."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_ipv6(self) -> bool:
        """Whether they are of IPv6, and of that alone."""
        return self.plain.family == socket.AF_INET6

    def close(self) -> None:
        """Give the port back."""
        self.plain.close()
        self.df.close()


def open_all_sleeve_sockets(host: str, port: int) -> list[SleeveSockets]:
    """Bind the sockets at an address of this host, or with "" at all: those of IPv4, then those of IPv6 if it is there.

    Raises as `open_sleeve_sockets`.
    """
    if host:
        return [open_sleeve_sockets(host, port)]
    with contextlib.ExitStack() as undo:
        found = [undo.enter_context(open_sleeve_sockets("", port))]
        if has_ipv6():
            found.append(open_sleeve_sockets("::", port))
        undo.pop_all()
    return found


def has_ipv6() -> bool:
    """Say whether this kernel has IPv6 at all."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::", 0))
    except OSError as error:
        if error.errno in _NO_IPV6:
            return False
        raise
    return True


def has_route(ip: str) -> bool:
    """Say whether this host would send to an address now, without sending anything."""
    try:
        with socket.socket(family(ip), socket.SOCK_DGRAM) as sock:
            sock.connect((ip, 9))
    except OSError:
        return False
    return True


def family(ip: str) -> socket.AddressFamily:
    """Give the family of an address as text."""
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


def open_sleeve_sockets(host: str, port: int) -> SleeveSockets:
    """Bind both sockets; `host` is an address of this host, "" for all of IPv4, "::" for all of IPv6.

    Raises AddressInUse if anybody else has the port, shared or not; then nobody else can have it.
    """
    with contextlib.ExitStack() as undo:
        plain = undo.enter_context(_new_socket(IP_PMTUDISC_DONT, family(host)))
        df = undo.enter_context(_new_socket(IP_PMTUDISC_DO, family(host)))
        # Sharing is on only while the second joins the first: a bind without it finds foreign sockets, whether
        # they would share or not, and afterwards no third socket can join.
        _bind(plain, host, port)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        df.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        _bind(df, host, port)
        for sock in (plain, df):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        undo.pop_all()
    return SleeveSockets(plain, df)


def of_version(sockets: Sequence[SleeveSockets], ip: str) -> SleeveSockets:
    """Give those that reach an address. Raises OSError, EAFNOSUPPORT, if none do."""
    for each in sockets:
        if each.is_ipv6 is (":" in ip):
            return each
    raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))


def open_peer_socket(sockets: SleeveSockets, local_ip: str, port: int, remote: tuple[str, int]) -> socket.socket:
    """Open a third socket on the port of `sockets`, for one neighbour: what it sends here comes in on this socket only.

    It sends with DF whatever a router said about the path's MTU, but nothing above the interface's (EMSGSIZE).
    Errors that ICMP reports can be read with `icmp_errors`. Raises OSError.
    """
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(_new_socket(IP_PMTUDISC_PROBE, family(remote[0])))
        if sockets.is_ipv6:
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        # Neighbours' sockets share the port for good, the two for everybody with those only while they join: so nobody
        # else can.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        shared = (sockets.plain, sockets.df)
        for each in shared:
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            sock.bind((local_ip, port))
            sock.connect(remote)
        finally:
            for each in shared:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)
        undo.pop_all()
    return sock


@dataclass(frozen=True, slots=True)
class SocketError:
    """An error that the kernel keeps for a socket. `mtu`: what an ICMP message of a too big packet claims."""

    errno: int
    mtu: int | None


def icmp_errors(sock: socket.socket, limit: int = 64) -> Iterator[SocketError]:
    """Take errors off a socket's error queue, at most `limit`."""
    for _ in range(limit):
        try:
            _, control, _, _ = sock.recvmsg(0, _ERROR_BYTES, MSG_ERRQUEUE)
        except OSError:
            return
        for level, kind, data in control:
            if (level, kind) in _ERROR_KINDS and len(data) >= _EXTENDED_ERROR.size:
                number, origin, icmp_type, code, _, info, _ = _EXTENDED_ERROR.unpack_from(data)
                is_too_big = (origin, icmp_type, code) in (_FRAGMENTATION_NEEDED, _PACKET_TOO_BIG)
                yield SocketError(number, info if number == errno.EMSGSIZE and is_too_big else None)


def path_mtu(local_ip: str, remote_ip: str, port: int = 6783) -> int:
    """Give the kernel's path MTU (bytes of an IP packet) without sending anything. Raises OSError.

    It is the MTU of the route, or less if a router said so lately; a black hole is not noticed.
    """
    with socket.socket(family(remote_ip), socket.SOCK_DGRAM) as sock:
        set_discovery(sock, IP_PMTUDISC_DO)
        sock.bind((local_ip, 0))
        sock.connect((remote_ip, port))
        if sock.family == socket.AF_INET6:
            return sock.getsockopt(socket.IPPROTO_IPV6, IPV6_MTU)
        return sock.getsockopt(socket.IPPROTO_IP, IP_MTU)


def set_discovery(sock: socket.socket, discover: int) -> None:
    """Set what becomes of datagrams above the path's MTU (IP_PMTUDISC_*, whose values IPv6 shares)."""
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, discover)
    else:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, discover)


def pktinfo(local_ip: str) -> tuple[int, int, bytes]:
    """Give the control message that makes `local_ip` the source address of a datagram."""
    if family(local_ip) == socket.AF_INET6:
        return (socket.IPPROTO_IPV6, IPV6_PKTINFO, _PKTINFO6.pack(socket.inet_pton(socket.AF_INET6, local_ip), 0))
    return (socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO.pack(0, socket.inet_aton(local_ip), bytes(4)))


def kernel_address(endpoint: tuple[str, int]) -> bytes:
    """Give an address and port as the kernel has them (struct sockaddr_in, sockaddr_in6). Raises OSError."""
    ip, port = endpoint
    if family(ip) == socket.AF_INET6:
        return _SOCKADDR6.pack(socket.AF_INET6, _PORT.pack(port), 0, socket.inet_pton(socket.AF_INET6, ip), 0)
    return _SOCKADDR.pack(socket.AF_INET, _PORT.pack(port), socket.inet_aton(ip))


def has_segmentation(sock: socket.socket) -> bool:
    """Say whether one send can carry many datagrams (UDP_SEGMENT, Linux 4.18). Older kernels would ignore the wish."""
    try:
        sock.getsockopt(SOL_UDP, UDP_SEGMENT)
    except OSError:
        return False
    return True


def receive_drops(sock: socket.socket) -> int:
    """Give how many datagrams were lost because the receive buffer was full; 0 if the kernel does not tell."""
    try:
        counters = sock.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, _MEMINFO.size)
    except OSError:
        return 0
    return int(_MEMINFO.unpack(counters)[-1]) if len(counters) == _MEMINFO.size else 0


def _new_socket(discover: int, version: socket.AddressFamily) -> socket.socket:
    sock = socket.socket(version, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    if version == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    set_discovery(sock, discover)
    _enlarge(sock, SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
    _enlarge(sock, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    try:
        sock.setsockopt(SOL_UDP, UDP_GRO, 1)
    except OSError:
        pass  # Linux before 5.0: datagrams come one by one.
    return sock


def _enlarge(sock: socket.socket, force: int, option: int, size: int) -> None:
    try:
        sock.setsockopt(socket.SOL_SOCKET, force, size)
    except PermissionError:
        sock.setsockopt(socket.SOL_SOCKET, option, size)


def _bind(sock: socket.socket, host: str, port: int) -> None:
    try:
        sock.bind((host, port))
    except OSError as error:
        raise _cannot_bind(host, port, error) from error


def _cannot_bind(host: str, port: int, error: OSError) -> PlaitError:
    match error.errno:
        case errno.EADDRINUSE:
            return AddressInUse(
                f"UDP port {port} is taken by another program, perhaps Weave or a second plait node "
                f"('ss -lunp sport = :{port}' names it): stop that program, or launch all nodes with another --port"
            )
        case errno.EADDRNOTAVAIL:
            return UsageError(
                f"{host} is no address of this host, so UDP port {port} cannot be opened there: correct --host"
            )
        case errno.EACCES:
            return PermissionNeeded(f"UDP port {port} needs root: run plait as root, or choose a port above 1023")
    return KernelRefused(f"UDP port {port} cannot be opened at {host}: {os.strerror(error.errno or 0)}")
