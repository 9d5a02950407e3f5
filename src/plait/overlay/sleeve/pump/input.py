"""Receives datagrams in bursts; runs that the kernel merged (UDP_GRO) are cut apart again."""

import socket
from struct import Struct

from plait.host import udp
from plait.overlay.sleeve.ipc import Endpoint

_BUFFER_BYTES = 1 << 16
_SIZE = Struct("=i")
_CONTROL_BYTES = socket.CMSG_SPACE(_SIZE.size)


class UdpInput:
    """The receiving half of one socket."""

    def __init__(self, sock: socket.socket) -> None:
        self.errors = 0
        """Failures other than "nothing there"."""
        self._recvmsg_into = sock.recvmsg_into
        self._view = memoryview(bytearray(_BUFFER_BYTES))
        self._buffers = [self._view]

    def read(self) -> tuple[Endpoint, list[bytes]] | None:
        """Give what one call brings: the sender, and its datagrams in order. None if nothing waits."""
        view = self._view
        try:
            size, control, _, source = self._recvmsg_into(self._buffers, _CONTROL_BYTES)
        except BlockingIOError:
            return None
        except OSError:
            self.errors += 1
            return None
        step = _segment_size(control) or size
        return source, [bytes(view[at : min(at + step, size)]) for at in range(0, size or 1, step or 1)]


def _segment_size(control: list[tuple[int, int, bytes]]) -> int:
    for level, kind, data in control:
        if level == udp.SOL_UDP and kind == udp.UDP_GRO and len(data) == _SIZE.size:
            return int(_SIZE.unpack(data)[0])
    return 0
