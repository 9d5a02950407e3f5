"""Sleeve's UDP sockets, ICMP errors about them, the kernel's path MTU. Never raw sockets (spec: ufo-bug).

It opens and configures; what is sent and received is the pump's business.
"""

import contextlib
import errno
import os
import socket
from collections.abc import Iterator
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
_EXTENDED_ERROR = Struct("=IBBBBII")
"""struct sock_extended_err: errno, origin, type, code, padding, info, data."""

_ERROR_BYTES = 512
_FRAGMENTATION_NEEDED = (2, 3, 4)
"""SO_EE_ORIGIN_ICMP, ICMP type and code."""

_MEMINFO = Struct("=9I")


@dataclass(frozen=True, slots=True)
class SleeveSockets:
    """Both are bound to one address and port, and both must be read: a datagram may come in on either."""

    plain: socket.socket
    """Sends datagrams that may be fragmented."""
    df: socket.socket
    """Sends datagrams with DF set; the kernel refuses those above the path MTU (EMSGSIZE)."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the port back."""
        self.plain.close()
        self.df.close()


def open_sleeve_sockets(host: str, port: int) -> SleeveSockets:
    """Bind both sockets; `host` is a dotted address of this host, or "" for all of them.

    Raises AddressInUse if anybody else has the port, shared or not; then nobody else can have it.
    """
    with contextlib.ExitStack() as undo:
        plain = undo.enter_context(_new_socket(IP_PMTUDISC_DONT))
        df = undo.enter_context(_new_socket(IP_PMTUDISC_DO))
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


def open_peer_socket(sockets: SleeveSockets, local_ip: str, port: int, remote: tuple[str, int]) -> socket.socket:
    """Open a third socket on the port of `sockets`, for one neighbour: what it sends here comes in on this socket only.

    It sends with DF whatever a router said about the path's MTU, but nothing above the interface's (EMSGSIZE).
    Errors that ICMP reports can be read with `icmp_errors`. Raises OSError.
    """
    with contextlib.ExitStack() as undo:
        sock = undo.enter_context(_new_socket(IP_PMTUDISC_PROBE))
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
    """An error that the kernel keeps for a socket. `mtu`: of "fragmentation needed", what an ICMP message claims."""

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
            if (level, kind) == (socket.IPPROTO_IP, IP_RECVERR) and len(data) >= _EXTENDED_ERROR.size:
                number, origin, icmp_type, code, _, info, _ = _EXTENDED_ERROR.unpack_from(data)
                is_mtu = number == errno.EMSGSIZE and (origin, icmp_type, code) == _FRAGMENTATION_NEEDED
                yield SocketError(number, info if is_mtu else None)


def path_mtu(local_ip: str, remote_ip: str, port: int = 6783) -> int:
    """Give the kernel's path MTU (bytes of an IP packet) without sending anything. Raises OSError.

    It is the MTU of the route, or less if a router said so lately; a black hole is not noticed.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO)
        sock.bind((local_ip, 0))
        sock.connect((remote_ip, port))
        return sock.getsockopt(socket.IPPROTO_IP, IP_MTU)


def pktinfo(local_ip: str) -> tuple[int, int, bytes]:
    """Give the control message that makes `local_ip` the source address of a datagram."""
    return (socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO.pack(0, socket.inet_aton(local_ip), bytes(4)))


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


def _new_socket(discover: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, discover)
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
