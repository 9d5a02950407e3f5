"""Traffic without programs: ping, TCP and UDP by sockets that this process opens inside the namespaces.

A socket stays in the namespace in which it was opened, so the measuring needs no process there.
"""

import os
import random
import select
import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from plait.host import netns
from plait.testing.lab.checksum import checksum
from plait.testing.lab.errors import LabError, Unanswered

_ECHO_REQUEST, _ECHO_REPLY = 8, 0  # RFC 792
# linux/in.h
_IP_MTU_DISCOVER = 10
_IP_PMTUDISC_DONT, _IP_PMTUDISC_DO, _IP_PMTUDISC_PROBE = 0, 2, 3
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_BLOCK_BYTES = 1 << 20
_UDP_HEAD = struct.Struct("!Q")
_QUIET_SECONDS = 1.0  # after this long without a datagram the rest is taken to be lost
_BUFFER_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class PingResult:
    """What came back. `error` is the last one that our own kernel or a router told (no route, too long)."""

    sent: int
    received: int
    duplicates: int
    rtts_ms: tuple[float, ...]
    error: str | None

    @property
    def ok(self) -> bool:
        """Whether every request was answered."""
        return self.received == self.sent

    @property
    def loss(self) -> float:
        """The share of requests without an answer, 0 to 1."""
        return 1 - self.received / self.sent

    @property
    def median_ms(self) -> float | None:
        """The median round trip; None without answers."""
        return statistics.median(self.rtts_ms) if self.rtts_ms else None


@dataclass(frozen=True, slots=True)
class Transfer:
    """Bytes that arrived unharmed, and the seconds it took."""

    transferred_bytes: int
    seconds: float

    @property
    def gigabits_per_second(self) -> float:
        """The rate."""
        return self.transferred_bytes * 8 / self.seconds / 1e9


@dataclass(frozen=True, slots=True)
class UdpResult:
    """Datagrams of a one-way flow: how many were sent, and the numbers (from 0) of those that arrived, as they came."""

    sent: int
    numbers: tuple[int, ...]

    @property
    def received(self) -> int:
        """How many arrived, each counted once."""
        return len(set(self.numbers))

    @property
    def duplicates(self) -> int:
        """How many arrived again."""
        return len(self.numbers) - self.received

    @property
    def overtaken(self) -> int:
        """How many arrived after one that was sent later."""
        latest = -1
        count = 0
        for number in self.numbers:
            count += number < latest
            latest = max(latest, number)
        return count


@dataclass(slots=True)
class _Ping:
    """The bookkeeping of one ping."""

    sock: socket.socket
    payload: bytes
    ident: int = field(default_factory=lambda: random.randrange(1, 1 << 16))
    sent_at: dict[int, float] = field(default_factory=dict)
    round_trips: dict[int, float] = field(default_factory=dict)
    duplicates: int = 0
    error: str | None = None

    def send(self) -> None:
        """Send the next request."""
        sequence = len(self.sent_at) + 1
        self.sent_at[sequence] = time.monotonic()
        try:
            self.sock.send(_echo_request(self.ident, sequence, self.payload))
        except OSError as error:
            self.error = error.strerror

    def receive(self, until: float) -> None:
        """Take answers until a time has come, or all requests sent are answered."""
        while len(self.round_trips) < len(self.sent_at) and (left := until - time.monotonic()) > 0:
            if select.select([self.sock], [], [], left)[0]:
                self._receive_one()

    def _receive_one(self) -> None:
        try:
            packet = self.sock.recv(65536)
        except OSError as error:  # an ICMP error came for a request
            self.error = error.strerror
        else:
            self._take(packet)

    def _take(self, packet: bytes) -> None:
        now, start = time.monotonic(), (packet[0] & 15) * 4
        kind, _, _, ident, sequence = struct.unpack_from("!BBHHH", packet, start)
        if (kind, ident) != (_ECHO_REPLY, self.ident) or sequence not in self.sent_at:
            return
        if sequence in self.round_trips:
            self.duplicates += 1
        self.round_trips.setdefault(sequence, now - self.sent_at[sequence])


def ping(
    path: Path,
    destination: str,
    count: int,
    interval: float,
    timeout: float,
    size: int,
    dont_fragment: bool,
) -> PingResult:
    """Send `count` echo requests of `size` data bytes, and wait up to `timeout` seconds after the last for answers."""
    with _socket(path, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_DO if dont_fragment else _IP_PMTUDISC_DONT)
        try:
            sock.connect((destination, 0))
        except OSError as error:
            return PingResult(count, 0, 0, (), error.strerror)
        state = _Ping(sock, bytes(size))
        for remaining in reversed(range(count)):
            state.send()
            due = time.monotonic() + (interval if remaining else timeout)
            state.receive(due)
            if remaining:
                time.sleep(max(0.0, due - time.monotonic()))
    rtts_ms = tuple(seconds * 1000 for seconds in state.round_trips.values())
    return PingResult(count, len(rtts_ms), state.duplicates, rtts_ms, state.error)


def transfer(client: Path, server: Path, address: str, size: int, timeout: float) -> Transfer:
    """Send `size` bytes by TCP from one namespace to an address in another, and check what arrives.

    Raise LabError if it is refused or harmed, Unanswered if nothing moves for `timeout` seconds.
    """
    block = os.urandom(min(_BLOCK_BYTES, size))
    with _socket(server, socket.SOCK_STREAM) as listener, _socket(client, socket.SOCK_STREAM) as sender:
        listener.bind((address, 0))
        listener.listen()
        listener.settimeout(timeout)
        sender.settimeout(timeout)
        with _explained(f"TCP to {address}", timeout):
            started = time.monotonic()
            sender.connect(listener.getsockname())
            receiver, _ = listener.accept()
            with receiver:
                receiver.settimeout(timeout)
                pump = _Sender(sender, block, size)
                pump.start()
                _receive(receiver, block, size)
                seconds = time.monotonic() - started
                pump.join(timeout)
    return Transfer(size, seconds)


def udp(
    client: Path,
    server: Path,
    address: str,
    port: int,
    count: int,
    size: int,
    interval: float,
    dont_fragment: bool = False,
) -> UdpResult:
    """Send numbered datagrams of `size` bytes one way, `interval` seconds apart, and note those that arrive.

    `dont_fragment` sets DF whatever the kernel has heard of path MTUs.
    """
    with _socket(server, socket.SOCK_DGRAM) as receiver, _socket(client, socket.SOCK_DGRAM) as sender:
        receiver.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        receiver.bind((address, port))
        if dont_fragment:
            sender.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
        padding = bytes(max(0, size - _UDP_HEAD.size))
        seen: list[int] = []
        for number in range(count):
            try:
                sender.sendto(_UDP_HEAD.pack(number) + padding, receiver.getsockname())
            except OSError:  # refused by our own kernel: lost like any other
                pass
            _drain(receiver, seen, interval)
        while _drain(receiver, seen, _QUIET_SECONDS if len(set(seen)) < count else 0.0):
            pass
    return UdpResult(count, tuple(seen))


class Capture:
    """The frames that a device sends and receives while the block runs."""

    def __init__(self, path: Path, device: str) -> None:
        with netns.entered(path):
            self._sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))  # ETH_P_ALL
        self._sock.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        self._sock.setblocking(False)
        self._sock.bind((device, 0x0003))

    def __enter__(self) -> "Capture":
        return self

    def __exit__(self, *_: object) -> None:
        self._sock.close()

    def frames(self) -> list[bytes]:
        """What came since the last call, oldest first."""
        found = []
        while True:
            try:
                found.append(self._sock.recv(1 << 17))
            except BlockingIOError:
                return found


class _Sender(threading.Thread):
    """Sends in the background; if it fails, the receiving side notices by what is missing."""

    def __init__(self, sock: socket.socket, block: bytes, size: int) -> None:
        super().__init__(name="lab transfer", daemon=True)
        self._sock, self._block, self._size = sock, block, size

    def run(self) -> None:
        for offset in range(0, self._size, len(self._block)):
            try:
                self._sock.sendall(memoryview(self._block)[: self._size - offset])
            except OSError:  # the receiver reports it
                return


def _receive(sock: socket.socket, block: bytes, size: int) -> None:
    buffer = memoryview(bytearray(len(block)))
    for offset in range(0, size, len(block)):
        wanted = min(len(block), size - offset)
        at = 0
        while at < wanted:
            count = sock.recv_into(buffer[at:wanted])
            if not count:
                raise LabError(f"TCP ended after {offset + at} of {size} bytes")
            at += count
        if buffer[:wanted] != memoryview(block)[:wanted]:
            raise LabError(f"TCP delivered wrong bytes between {offset} and {offset + wanted}")


def _drain(sock: socket.socket, seen: list[int], seconds: float) -> bool:
    """Note all numbers that come within `seconds`; whether any came."""
    came = False
    deadline = time.monotonic() + seconds
    while select.select([sock], [], [], max(0.0, deadline - time.monotonic()))[0]:
        seen.append(_UDP_HEAD.unpack_from(sock.recv(65536))[0])
        came = True
    return came


def _socket(path: Path, kind: socket.SocketKind, protocol: int = 0) -> socket.socket:
    with netns.entered(path):
        return socket.socket(socket.AF_INET, kind, protocol)


@contextmanager
def _explained(doing: str, timeout: float) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise Unanswered(f"{doing}: nothing moved for {timeout:g} s") from error
    except OSError as error:
        raise LabError(f"{doing}: {error.strerror}") from error


def _echo_request(ident: int, sequence: int, payload: bytes) -> bytes:
    head = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, ident, sequence)
    return struct.pack("!BBHHH", _ECHO_REQUEST, 0, checksum(head + payload), ident, sequence) + payload
