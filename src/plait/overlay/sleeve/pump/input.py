"""Receives datagrams in bursts, as the kernel merged them (UDP_GRO)."""

import errno as e
import socket
from struct import Struct
from typing import NamedTuple

from plait.host import udp
from plait.overlay.sleeve.ipc import Endpoint

BUFFER_BYTES = 1 << 16
_SIZE = Struct("=i")
_CONTROL_BYTES = socket.CMSG_SPACE(_SIZE.size)
_PASSING = frozenset((e.ECONNREFUSED, e.EMSGSIZE, e.EHOSTUNREACH, e.ENETUNREACH, e.EHOSTDOWN))
"""Errors of sending that a connected socket reports when it is read; what ICMP says is read elsewhere."""


class Burst(NamedTuple):
    """What one call brought: `size` bytes in the buffer, datagrams of `step` bytes each, the last maybe fewer."""

    source: Endpoint
    size: int
    step: int


class UdpInput:
    """The receiving half of one socket. Inputs may share a buffer: a burst is used before the next is read."""

    def __init__(self, sock: socket.socket, buffer: bytearray, remote: Endpoint = ("", 0)) -> None:
        """`remote`: whom it is connected to, if it is."""
        self.remote = remote
        self.errors = 0
        """Failures other than "nothing there"."""
        self.socket = sock
        self._recvmsg_into = sock.recvmsg_into
        self._buffers = [memoryview(buffer)]

    def read(self) -> Burst | None:
        """Read once. None if nothing waits."""
        try:
            size, control, _, source = self._recvmsg_into(self._buffers, _CONTROL_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            self.note_error(error.errno)
            return None
        return Burst(source[:2], size, _segment_size(control) or size or 1)

    def note_error(self, errno: int | None) -> None:
        """Count a failure to receive, unless it only tells of an earlier send."""
        self.errors += errno not in _PASSING


def _segment_size(control: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in control:
        if level == udp.SOL_UDP and kind == udp.UDP_GRO and len(data) == _SIZE.size:
            return int(_SIZE.unpack(data)[0])
    return 0
