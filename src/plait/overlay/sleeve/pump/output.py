"""Sends UDP payloads: many at once where the kernel can (UDP_SEGMENT), from the right address, never too large with DF.

What a refusal means is decided in core.py.
"""

import errno as e
import socket
from collections.abc import Iterable, Sequence
from struct import Struct

from plait.host import udp
from plait.overlay.sleeve.datagram import IP_UDP_BYTES
from plait.overlay.sleeve.ipc import Endpoint
from plait.overlay.sleeve.pump.core import Outgoing, PumpCore
from plait.overlay.sleeve.pump.link import Link
from plait.overlay.sleeve.sender import MAX_SEGMENTS, Path, segment_runs

_Control = tuple[int, int, bytes]
_SEGMENT_SIZE = Struct("=H")
_NO_SEGMENTATION = frozenset((e.EIO, e.EINVAL, e.EOPNOTSUPP))
"""Answers to UDP_SEGMENT on routes that cannot: through IPsec, or by a device without checksum offload."""


class _Target:
    """What the kernel must be told to reach a neighbour; made anew when the node changes the path."""

    __slots__ = ("control", "df_limit", "max_run", "path", "remote")

    def __init__(self, path: Path, remote: Endpoint, local_ip: str, max_run: int) -> None:
        self.path = path
        self.remote = remote
        self.control: _Control = udp.pktinfo(local_ip)
        self.max_run = max_run
        self.df_limit = 0
        """The largest UDP payload the kernel may be given with DF; 0 until it was asked."""


class UdpOutput:
    """The sending half of the two sockets."""

    def __init__(self, core: PumpCore, plain: socket.socket, df: socket.socket) -> None:
        self._core = core
        self._plain = plain
        self._df = df
        self._max_run = MAX_SEGMENTS if udp.has_segmentation(plain) else 1
        self._targets: dict[int, _Target] = {}

    def send(self, outgoing: Iterable[Outgoing], now: float) -> None:
        """Send bursts; the core hears what became of each datagram."""
        for link, df, payloads in outgoing:
            target = self._target(link)
            if target is None:
                self._core.send_failed(link, df, len(payloads), e.EDESTADDRREQ, now)
                continue
            for run in segment_runs(payloads, link.path.max_payload, target.max_run):
                self._send_run(link, target, df, run, now)

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
        target = self._targets[link.peer] = _Target(path, path.remote, link.local_ip, self._max_run)
        return target

    def _send_run(self, link: Link, target: _Target, df: bool, run: Sequence[bytes], now: float) -> None:
        refusal = _refusal(link, target, len(run[0])) if df and len(run[0]) > target.df_limit else 0
        refusal = refusal or _send(self._df if df else self._plain, target, run)
        if not refusal:
            self._core.sent(link, df, run)
        elif len(run) > 1 and (refusal in _NO_SEGMENTATION or (refusal == e.EMSGSIZE and not df)):
            if refusal != e.EMSGSIZE:
                target.max_run = 1
            for payload in run:
                self._send_run(link, target, df, (payload,), now)
        else:
            self._core.send_failed(link, df, len(run), refusal, now)


def _refusal(link: Link, target: _Target, size: int) -> int:
    """Give the errno for a DF datagram above the path MTU, so that no kernel sees it (spec: ufo-bug, section 4)."""
    try:
        target.df_limit = udp.path_mtu(link.local_ip, *target.remote) - IP_UDP_BYTES
    except OSError as error:
        return error.errno or e.EIO
    return e.EMSGSIZE if size > target.df_limit else 0


def _send(sock: socket.socket, target: _Target, run: Sequence[bytes]) -> int:
    """Make one system call; gives 0 or its errno."""
    control = [target.control]
    if len(run) > 1:
        control.append((udp.SOL_UDP, udp.UDP_SEGMENT, _SEGMENT_SIZE.pack(len(run[0]))))
    try:
        sock.sendmsg(run, control, 0, target.remote)
    except OSError as error:
        return error.errno or e.EIO
    return 0
