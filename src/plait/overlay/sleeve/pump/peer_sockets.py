"""A connected socket for each neighbour that speaks plait1: what one of them sends fills no other's buffer."""

import errno as e
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic

from plait.host import udp
from plait.overlay.sleeve.ipc import Endpoint
from plait.overlay.sleeve.pump.input import UdpInput
from plait.overlay.sleeve.pump.link import Link

RETRY_INTERVAL = 1.0
"""Seconds until a socket that could not be opened is tried again."""


@dataclass(slots=True)
class _Entry:
    remote: Endpoint
    local_ip: str
    input: UdpInput | None
    errno: int = 0
    retry_at: float = 0.0


class PeerSockets:
    """Opens, reopens and closes them. `opened` and `closing` let the loop watch what is there."""

    def __init__(
        self,
        shared: Sequence[udp.SleeveSockets],
        port: int,
        buffer: bytearray,
        opened: Callable[[Link, UdpInput], None],
        closing: Callable[[UdpInput], None],
    ) -> None:
        self._shared = shared
        self._port = port
        self._buffer = buffer
        self._opened = opened
        self._closing = closing
        self._entries: dict[int, _Entry] = {}

    def get(self, link: Link) -> socket.socket | int:
        """Give the socket connected to a neighbour, opening it if need be; else the errno of why there is none."""
        entry = self._entries.get(link.peer)
        remote = link.path.remote
        if entry is not None and entry.remote == remote and entry.local_ip == link.local_ip:
            if entry.input is not None:
                return entry.input.socket
            if monotonic() < entry.retry_at:
                return entry.errno
        if remote is None:
            return e.EDESTADDRREQ
        return self._open(link, remote)

    def inputs(self) -> list[UdpInput]:
        """Give the receiving halves."""
        return [entry.input for entry in self._entries.values() if entry.input is not None]

    def forget(self, peer: int) -> None:
        """Close a neighbour's socket."""
        entry = self._entries.pop(peer, None)
        if entry is not None and entry.input is not None:
            self._closing(entry.input)
            entry.input.socket.close()

    def _open(self, link: Link, remote: Endpoint) -> socket.socket | int:
        self.forget(link.peer)
        try:
            shared = udp.of_version(self._shared, link.local_ip)
            sock = udp.open_peer_socket(shared, link.local_ip, self._port, remote)
        except OSError as error:
            refusal = error.errno or e.EIO
            self._entries[link.peer] = _Entry(remote, link.local_ip, None, refusal, monotonic() + RETRY_INTERVAL)
            return refusal
        source = UdpInput(sock, self._buffer, remote)
        self._entries[link.peer] = _Entry(remote, link.local_ip, source)
        self._opened(link, source)
        return sock
