"""Sends datagrams: many at once where the kernel can (UDP_SEGMENT), from the right address, never too large with DF.

What a refusal means is decided in core.py.
"""

import errno as e
import socket
from collections.abc import Callable, Sequence
from struct import Struct

from plait.host import udp
from plait.overlay.outer import ip_udp_bytes, is_ipv6
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.moved import Route
from plait.overlay.sleeve.plait1.engine import MAX_SEND_SEGMENTS, Buffer
from plait.overlay.sleeve.pump.core import PumpCore
from plait.overlay.sleeve.pump.link import Link, Outgoing, Payloads, Socket, SuperFrame
from plait.overlay.sleeve.sender import MAX_SEGMENTS, Path, segment_runs

_Control = tuple[int, int, bytes]
_SEGMENT_SIZE = Struct("=H")
_NO_SEGMENTATION = frozenset((e.EIO, e.EINVAL, e.EOPNOTSUPP))
"""Answers to UDP_SEGMENT on routes that cannot: through IPsec, or by a device without checksum offload."""

_PENDING = frozenset((e.ECONNREFUSED, e.EHOSTUNREACH, e.ENETUNREACH, e.EMSGSIZE))
"""What ICMP said of an earlier datagram is told with the next send on a connected socket, which is then not done."""

_TRIES = 3


class _Target:
    """What the kernel must be told to reach a neighbour; made anew when the node changes the path."""

    __slots__ = ("control", "df_limit", "path", "peer_run", "remote", "shared_run")

    def __init__(self, path: Path, remote: ipc.Endpoint, local_ip: str, segments: bool) -> None:
        self.path = path
        self.remote = remote
        self.control: list[_Control] = [udp.pktinfo(local_ip)]
        self.shared_run = MAX_SEGMENTS if segments else 1
        self.peer_run = MAX_SEND_SEGMENTS if segments else 1
        self.df_limit = 0
        """The largest UDP payload the kernel may be given with DF; 0 until it was asked."""


class UdpOutput:
    """The sending half of all sockets."""

    def __init__(
        self,
        core: PumpCore,
        shared: Sequence[udp.SleeveSockets],
        peer_socket: Callable[[Link], socket.socket | int],
    ) -> None:
        """`shared`: for everybody, of one version of IP or of both.

        `peer_socket` gives the socket connected to a neighbour, or the errno of why there is none.
        """
        self._core = core
        self._shared = shared
        self._peer_socket = peer_socket
        self._can_segment = udp.has_segmentation(shared[0].plain)
        self._targets: dict[int, _Target] = {}

    def send(self, outgoing: Outgoing, now: float) -> None:
        """Send; the core hears what became of each datagram."""
        if isinstance(outgoing, Payloads) and outgoing.address is not None:
            self._send_elsewhere(outgoing, outgoing.address, now)
            return
        target = self._target(outgoing.link)
        if target is None:
            self._core.send_failed(outgoing, 1, e.EDESTADDRREQ, now)
        elif isinstance(outgoing, SuperFrame):
            self._send_super(outgoing, target, now)
        elif outgoing.socket is Socket.PEER:
            for run in segment_runs(outgoing.payloads, outgoing.link.path.max_payload, target.peer_run):
                self._send_run_to_peer(outgoing, target, run, now)
        else:
            for run in segment_runs(outgoing.payloads, outgoing.link.path.max_payload, target.shared_run):
                self._send_run(outgoing, target, run, now)

    def segmenting_socket(self, link: Link) -> int | None:
        """Give the descriptor of a neighbour's socket, if the kernel segments on the way; None else."""
        target = self._target(link)
        if target is None or target.peer_run == 1:
            return None
        sock = self._peer_socket(link)
        return None if isinstance(sock, int) else sock.fileno()

    def listen(self, link: Link) -> None:
        """Open a neighbour's own socket; if that cannot be, what it sends comes in on those for everybody."""
        self._peer_socket(link)

    def shared_route(self, link: Link) -> Route | None:
        """Give how datagrams reach a neighbour by the sockets for everybody.

        None if the kernel does not segment on the way, or would refuse what the link takes to fit.
        """
        target = self._target(link)
        if target is None or target.shared_run == 1:
            return None
        try:
            pair, remote = udp.of_version(self._shared, target.remote[0]), udp.kernel_address(target.remote)
        except OSError:
            return None
        largest = link.path.max_payload
        if largest > target.df_limit and _refusal(link, target, largest):
            return None
        return Route(pair.plain.fileno(), pair.df.fileno(), remote, target.control[0], target.shared_run)

    def cannot_segment(self, link: Link) -> None:
        """Note that the kernel does not segment on the way to a neighbour."""
        target = self._target(link)
        if target is not None:
            target.peer_run = target.shared_run = 1

    def forget(self, peer: int) -> None:
        """Drop what is kept of a neighbour."""
        self._targets.pop(peer, None)

    def _target(self, link: Link) -> _Target | None:
        path = link.path
        target = self._targets.get(link.peer)
        if target is not None and target.path is path:
            return target
        if path.remote is None:
            return None
        target = self._targets[link.peer] = _Target(path, path.remote, link.local_ip, self._can_segment)
        return target

    def _send_elsewhere(self, outgoing: Payloads, address: ipc.Endpoint, now: float) -> None:
        """Answer an address that is not, or not yet, the neighbour's; the answers are small."""
        control = [udp.pktinfo(outgoing.link.local_ip)]
        for payload in outgoing.payloads:
            refusal = self._send_shared(outgoing.socket, control, address, [payload])
            if refusal:
                self._core.send_failed(outgoing, 1, refusal, now)
            else:
                self._core.sent(outgoing, 1, len(payload))

    # By the socket of one neighbour

    def _send_super(self, outgoing: SuperFrame, target: _Target, now: float) -> None:
        segments = outgoing.segments
        sock = self._peer_socket(outgoing.link)
        if isinstance(sock, int):
            self._core.send_failed(outgoing, segments.count, sock, now)
            return
        if target.peer_run == 1:
            self._send_apart(outgoing, sock, now)
            return
        left = segments.total
        for buffers, count in segments.sends():
            refusal = _send_connected(sock, buffers, segments.size if count > 1 else 0)
            size = min(count * segments.size, left)
            left -= size
            if not refusal:
                self._core.sent(outgoing, count, size)
            elif refusal in _NO_SEGMENTATION:
                target.peer_run = 1
                self._send_apart(outgoing, sock, now)
                return
            else:
                self._core.send_failed(outgoing, count, refusal, now)

    def _send_apart(self, outgoing: SuperFrame, sock: socket.socket, now: float) -> None:
        """Send the datagrams of a super-frame one by one, where the kernel cannot do it."""
        segments = outgoing.segments
        whole = b"".join(segments.buffers)
        for at in range(0, len(whole), segments.size):
            datagram = whole[at : at + segments.size]
            refusal = _send_connected(sock, [datagram], 0)
            if refusal:
                self._core.send_failed(outgoing, 1, refusal, now)
            else:
                self._core.sent(outgoing, 1, len(datagram))

    def _send_run_to_peer(self, outgoing: Payloads, target: _Target, run: Sequence[bytes], now: float) -> None:
        sock = self._peer_socket(outgoing.link)
        refusal = sock if isinstance(sock, int) else _send_connected(sock, run, len(run[0]) if len(run) > 1 else 0)
        if not refusal:
            self._core.sent(outgoing, len(run), sum(map(len, run)))
        elif len(run) > 1 and refusal in _NO_SEGMENTATION:
            target.peer_run = 1
            for payload in run:
                self._send_run_to_peer(outgoing, target, (payload,), now)
        else:
            self._core.send_failed(outgoing, len(run), refusal, now)

    # By the sockets for everybody

    def _send_run(self, outgoing: Payloads, target: _Target, run: Sequence[bytes], now: float) -> None:
        df = outgoing.socket is Socket.DF
        size = len(run[0])
        refusal = _refusal(outgoing.link, target, size) if df and size > target.df_limit else 0
        refusal = refusal or self._send_shared(outgoing.socket, target.control, target.remote, run)
        if not refusal:
            self._core.sent(outgoing, len(run), sum(map(len, run)))
        elif len(run) > 1 and (refusal in _NO_SEGMENTATION or (refusal == e.EMSGSIZE and not df)):
            if refusal != e.EMSGSIZE:
                target.shared_run = 1
            for payload in run:
                self._send_run(outgoing, target, (payload,), now)
        else:
            self._core.send_failed(outgoing, len(run), refusal, now)

    def _send_shared(self, kind: Socket, control: list[_Control], remote: ipc.Endpoint, run: Sequence[bytes]) -> int:
        try:
            pair = udp.of_version(self._shared, remote[0])
        except OSError as error:
            return error.errno or e.EIO
        return _send(pair.plain if kind is Socket.PLAIN else pair.df, control, remote, run)


def _refusal(link: Link, target: _Target, size: int) -> int:
    """Give the errno for a DF datagram above the path MTU, so that no kernel sees it (spec: ufo-bug, section 4)."""
    try:
        target.df_limit = udp.path_mtu(link.local_ip, *target.remote) - ip_udp_bytes(is_ipv6=is_ipv6(target.remote[0]))
    except OSError as error:
        return error.errno or e.EIO
    return e.EMSGSIZE if size > target.df_limit else 0


def _send(sock: socket.socket, control: list[_Control], remote: ipc.Endpoint, run: Sequence[bytes]) -> int:
    """Make one system call; gives 0 or its errno."""
    if len(run) > 1:
        control = [*control, (udp.SOL_UDP, udp.UDP_SEGMENT, _SEGMENT_SIZE.pack(len(run[0])))]
    try:
        sock.sendmsg(run, control, 0, remote)
    except OSError as error:
        return error.errno or e.EIO
    return 0


def _send_connected(sock: socket.socket, buffers: Sequence[Buffer], segment_size: int) -> int:
    """Make one system call, again if it only told of an earlier datagram; gives 0 or its errno."""
    control = [(udp.SOL_UDP, udp.UDP_SEGMENT, _SEGMENT_SIZE.pack(segment_size))] if segment_size else []
    refusal = 0
    for _ in range(_TRIES):
        try:
            sock.sendmsg(buffers, control)
        except OSError as error:
            refusal = error.errno or e.EIO
            if refusal not in _PENDING:
                break
        else:
            return 0
    return refusal
