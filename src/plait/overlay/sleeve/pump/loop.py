"""The pump's event loop: reads bursts, feeds the core, carries out what it gives. Decides nothing.

Each source gets a slice of time per round, so that none starves another.
"""

import gc
import os
import select
import socket
from collections.abc import Callable
from time import monotonic

import msgspec

from plait.host import udp
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.pump.channel import NodeChannel, NodeGone
from plait.overlay.sleeve.pump.core import PumpCore
from plait.overlay.sleeve.pump.input import UdpInput
from plait.overlay.sleeve.pump.output import UdpOutput
from plait.overlay.sleeve.pump.tap_port import TapGone, TapPort

SLICE = 0.0005
"""Seconds until another source has its turn, checked after each burst: a direction gets a third of a busy pump."""

FRAMES_PER_BURST = 64
"""Frames read from the tap before they are sent, so that the first does not wait long for company."""

PACKETS_PER_ROUND = 64
"""Packets of the node per round."""

SWEEP_INTERVAL = 60.0

TAP_COMPLAINT_INTERVAL = 60.0
"""Seconds between sentences about a tap that takes no frames."""


class Loop:
    """One pump between a tap, two sockets and the node."""

    def __init__(self, name: int, tap_fd: int, plain: socket.socket, df: socket.socket, channel: socket.socket) -> None:
        self._core = PumpCore(name)
        self._tap = TapPort(tap_fd)
        self._sockets = (plain, df)
        self._inputs = (UdpInput(plain), UdpInput(df))
        self._output = UdpOutput(self._core, plain, df)
        self._channel = NodeChannel(channel)
        self._poll = select.epoll()
        self._now = monotonic()
        self._sweep_at = self._now + SWEEP_INTERVAL
        self._complain_at = self._now
        self._is_waiting_to_write = False
        self._tap_fd = tap_fd
        self._handlers: dict[int, Callable[[], None]] = {
            tap_fd: self._read_tap,
            plain.fileno(): lambda: self._read_udp(self._inputs[0]),
            df.fileno(): lambda: self._read_udp(self._inputs[1]),
            channel.fileno(): self._read_node,
        }
        for fd in self._handlers:
            self._poll.register(fd, select.EPOLLIN)

    def run(self) -> None:
        """Work until the node closes its end of the channel."""
        gc.collect()
        gc.freeze()
        # Frames make no cycles; what errors leave behind is collected once a minute, not in the middle of a burst.
        gc.disable()
        try:
            self._channel.send([ipc.Ready(os.getpid())])
            while True:
                self._round()
        except NodeGone:
            return

    def _round(self) -> None:
        ready = self._poll.poll(max(0.0, self._sweep_at - self._now))
        self._now = monotonic()
        for fd, _ in ready:
            self._handlers[fd]()
        if self._now >= self._sweep_at:
            self._sweep()

    def _read_tap(self) -> None:
        captured, now = self._core.captured, self._now
        until = monotonic() + SLICE
        while True:
            try:
                frames = self._tap.read(FRAMES_PER_BURST)
            except TapGone as gone:
                self._poll.unregister(self._tap_fd)
                self._channel.send([ipc.Complaint(_tap_gone(gone))])
                return
            for frame in frames:
                captured(frame, now)
            self._carry_out()
            if len(frames) < FRAMES_PER_BURST or monotonic() > until:
                return

    def _read_udp(self, source: UdpInput) -> None:
        received, now = self._core.received, self._now
        until = monotonic() + SLICE
        while (burst := source.read()) is not None:
            sender, payloads = burst
            self._core.counters["received"] += len(payloads)
            for payload in payloads:
                received(payload, sender, now)
            self._carry_out()
            if monotonic() > until:
                return

    def _read_node(self) -> None:
        self._channel.flush()
        for message in self._channel.receive(PACKETS_PER_ROUND):
            self._core.apply(message)
            if isinstance(message, ipc.SetConnection | ipc.RemoveConnection):
                self._output.forget(message.peer)
            elif isinstance(message, ipc.QueryStats):
                self._channel.send([self._stats()])
        self._carry_out()

    def _carry_out(self) -> None:
        core = self._core
        if core.injections:
            self._tap.write(core.take_injections())
        self._output.send(core.drain(), self._now)
        if self._tap.errno and self._now >= self._complain_at:
            self._complain_at = self._now + TAP_COMPLAINT_INTERVAL
            core.messages.append(ipc.Complaint(_tap_refuses(self._tap.errno)))
        if core.messages:
            self._channel.send(core.take_messages())
        if self._channel.is_blocked is not self._is_waiting_to_write:
            self._is_waiting_to_write = self._channel.is_blocked
            events = select.EPOLLIN | (select.EPOLLOUT if self._is_waiting_to_write else 0)
            self._poll.modify(self._channel.fileno(), events)

    def _sweep(self) -> None:
        self._sweep_at = self._now + SWEEP_INTERVAL
        self._core.sweep(self._now)
        gc.collect()
        self._carry_out()

    def _stats(self) -> ipc.Stats:
        stats = self._core.stats()
        shell = {
            "tap_refused": self._tap.refused,
            "receive_errors": sum(source.errors for source in self._inputs),
            "receive_buffer_full": sum(udp.receive_drops(sock) for sock in self._sockets),
            "messages_lost": self._channel.lost,
        }
        return msgspec.structs.replace(stats, counters=stats.counters | shell)


def _tap_gone(gone: TapGone) -> str:
    return (
        f"the tap was removed by somebody else ({gone}), so frames of containers do not reach other hosts until the "
        "node has made it again, which it does within seconds"
    )


def _tap_refuses(errno: int) -> str:
    return (
        f"the tap takes no frames ({os.strerror(errno)}), so frames of other hosts do not reach containers here: "
        "the node sets the tap up again by itself, if not, see 'ip link show' for who takes it down"
    )
