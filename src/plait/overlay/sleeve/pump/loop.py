"""The pump's event loop: reads bursts, feeds the core, carries out what it gives. Decides nothing.

Each source gets a slice of time per round, so that none starves another.
"""

import gc
import os
import select
import socket
from collections.abc import Callable, Sequence
from functools import partial
from time import monotonic
from typing import NamedTuple

import msgspec

from plait.host import udp
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.cutting import Cutter
from plait.overlay.sleeve.native.flows import NativeFlows
from plait.overlay.sleeve.plait1.engine import Engine
from plait.overlay.sleeve.pump.channel import NodeChannel, NodeGone
from plait.overlay.sleeve.pump.core import PumpCore, ToBridge, Work
from plait.overlay.sleeve.pump.flows import Flows, Rest
from plait.overlay.sleeve.pump.input import BUFFER_BYTES, UdpInput
from plait.overlay.sleeve.pump.link import Link
from plait.overlay.sleeve.pump.output import UdpOutput
from plait.overlay.sleeve.pump.pacing import INTERVAL as PACING_INTERVAL
from plait.overlay.sleeve.pump.peer_sockets import PeerSockets
from plait.overlay.sleeve.pump.tap_port import TapGone, TapPort

SLICE = 0.0005
"""Seconds until another source has its turn, checked after each burst: a direction gets a third of a busy pump."""

FRAMES_PER_BURST = 64
"""Frames read from the tap before they are sent, so that the first does not wait long for company."""

PACKETS_PER_ROUND = 64
"""Packets of the node per round."""

RUN_SECONDS = 1.0
"""That known flows are moved before anything else is looked at, unless it is ready: a counter is never older."""

SWEEP_INTERVAL = 60.0
_FLOW_HEAD_BYTES = 64
"""Of a frame, more than says of which flow it is."""

TAP_COMPLAINT_INTERVAL = 60.0
"""Seconds between sentences about a tap that takes no frames."""


class Tools(NamedTuple):
    """What moves super-frames, and a sentence about it."""

    engine: Engine
    cutter: Cutter
    flows: NativeFlows | None
    """What moves the frames of known flows past the core, if it is there."""
    sentence: str


class Loop:
    """One pump between a tap, the sockets and the node."""

    def __init__(
        self,
        name: int,
        port: int,
        tap_fd: int,
        sockets: Sequence[udp.SleeveSockets],
        channel: socket.socket,
        tools: Tools,
    ) -> None:
        """`sockets`: of one version of IP or of both."""
        self._tap = TapPort(tap_fd)
        has_udp = self._tap.accept_super_frames()
        self._core = PumpCore(name, tools.engine, tools.cutter, udp_super_frames=has_udp)
        self._sentence = tools.sentence
        buffer = self._buffer = bytearray(BUFFER_BYTES)
        self._inputs = [UdpInput(each, buffer) for pair in sockets for each in (pair.plain, pair.df)]
        self._peers = PeerSockets(sockets, port, buffer, self._watch, self._unwatch)
        self._output = UdpOutput(self._core, sockets, self._peers.get)
        self._channel = NodeChannel(channel)
        self._poll = select.epoll()
        self._flows = None
        if tools.flows is not None:
            self._flows = Flows(tools.flows, self._core, self._tap, self._output, buffer, self._poll.fileno())
        self._now = monotonic()
        self._sweep_at = self._now + SWEEP_INTERVAL
        self._complain_at = self._now
        self._is_waiting_to_write = False
        self._tap_fd = tap_fd
        self._handlers: dict[int, Callable[[int], None]] = {
            tap_fd: lambda _: self._read_tap(),
            channel.fileno(): lambda _: self._read_node(),
        }
        for source in self._inputs:
            self._handlers[source.socket.fileno()] = partial(self._read_shared, source)
        for fd in self._handlers:
            self._poll.register(fd, select.EPOLLIN)

    def run(self) -> None:
        """Work until the node closes its end of the channel."""
        gc.collect()
        gc.freeze()
        # Frames make no cycles; what errors leave behind is collected once a minute, not in the middle of a burst.
        gc.disable()
        try:
            self._channel.send([ipc.Ready(os.getpid(), self._sentence)])
            while True:
                self._round()
        except NodeGone:
            return

    def _round(self) -> None:
        patience = max(0.0, self._sweep_at - self._now)
        if self._core.is_held_back:
            patience = min(patience, PACING_INTERVAL)
        if self._flows is not None:
            self._run(self._flows, min(patience, RUN_SECONDS))
            patience = 0.0
        ready = self._poll.poll(patience)
        self._now = monotonic()
        for fd, events in ready:
            if self._flows is not None and events == select.EPOLLIN and self._flows.serves(fd):
                continue
            # A message of the node may have closed a socket that was ready too.
            handler = self._handlers.get(fd)
            if handler is not None:
                handler(events)
        if self._core.is_held_back:
            self._carry_out()
        if self._now >= self._sweep_at:
            self._sweep()

    def _run(self, flows: Flows, seconds: float) -> None:
        """Have the frames of known flows moved, and do what was given back."""
        now = monotonic()
        try:
            given_back = flows.run(now + seconds, now)
            self._now = monotonic()
            if isinstance(given_back, Rest):
                self._feed(flows, given_back)
            elif given_back is not None:
                self._capture()
        except TapGone as gone:
            self._lose_tap(gone)

    def _feed(self, flows: Flows, rest: Rest) -> None:
        core = self._core
        burst = self._buffer, rest.size, rest.step, rest.source.remote, self._now
        for work in core.received(*burst) if rest.is_whole else core.received_from(rest.link, *burst):
            self._do(work)
        flows.learn_inbound(rest.link)
        self._carry_out()

    def _watch(self, link: Link, source: UdpInput) -> None:
        fd = source.socket.fileno()
        self._handlers[fd] = partial(self._read_peer, link, source)
        self._poll.register(fd, select.EPOLLIN)
        if self._flows is not None:
            self._flows.watch(link, source)

    def _unwatch(self, source: UdpInput) -> None:
        fd = source.socket.fileno()
        self._poll.unregister(fd)
        del self._handlers[fd]
        if self._flows is not None:
            self._flows.unwatch(source)

    def _read_tap(self) -> None:
        until = monotonic() + SLICE
        try:
            while not self._capture() and monotonic() <= until:
                pass
        except TapGone as gone:
            self._lose_tap(gone)

    def _lose_tap(self, gone: TapGone) -> None:
        self._poll.unregister(self._tap_fd)
        self._channel.send([ipc.Complaint(_tap_gone(gone))])

    def _capture(self) -> bool:
        """Read a burst for the core, and send it; True if nothing waits any more. Raises TapGone."""
        core, flows, now = self._core, self._flows, self._now
        frames, super_frame = self._tap.read(FRAMES_PER_BURST)
        for raw in frames:
            core.captured(raw, now)
        self._carry_out()
        last = frames[-1] if frames else b""
        if super_frame is not None:
            # The core takes labels off in the buffer.
            last = bytes(super_frame[:_FLOW_HEAD_BYTES])
            for work in core.captured_super(super_frame, now):
                self._do(work)
            self._carry_out()
        if flows is not None and last:
            flows.learn_outbound(core.outbound_flow(last))
        return super_frame is None and len(frames) < FRAMES_PER_BURST

    def _read_shared(self, source: UdpInput, _events: int) -> None:
        self._read_udp(source)

    def _read_peer(self, link: Link, source: UdpInput, events: int) -> None:
        if events & select.EPOLLERR:
            self._read_errors(link, source)
        self._read_udp(source)
        if self._flows is not None:
            self._flows.learn_inbound(link)

    def _read_udp(self, source: UdpInput) -> None:
        core, buffer, now = self._core, self._buffer, self._now
        until = monotonic() + SLICE
        while (burst := source.read()) is not None:
            sender, size, step = burst
            core.counters["received"] += max(-(-size // step), 1)
            for work in core.received(buffer, size, step, sender, now):
                self._do(work)
            if monotonic() > until:
                break
        self._carry_out()

    def _read_errors(self, link: Link, source: UdpInput) -> None:
        for error in udp.icmp_errors(source.socket):
            if error.mtu is not None:
                self._core.mtu_hint(link, error.mtu, self._now)

    def _read_node(self) -> None:
        self._channel.flush()
        for message in self._channel.receive(PACKETS_PER_ROUND):
            if self._flows is not None and not isinstance(message, ipc.QueryStats | ipc.SendProbe):
                self._flows.forget()
            self._core.apply(message, monotonic())
            if isinstance(message, ipc.SetConnection | ipc.RemoveConnection):
                self._output.forget(message.peer)
                self._peers.forget(message.peer)
            elif isinstance(message, ipc.SetPath) and self._flows is not None:
                self._flows.listen(message.peer)
            elif isinstance(message, ipc.QueryStats):
                self._channel.send([self._stats()])
        self._carry_out()

    def _do(self, work: Work) -> None:
        if isinstance(work, ToBridge):
            self._tap.write(work.frames)
        else:
            self._output.send(work, self._now)

    def _carry_out(self) -> None:
        core = self._core
        for work in core.drain(self._now):
            self._do(work)
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
        inputs = [*self._inputs, *self._peers.inputs()]
        shell = {
            "tap_refused": self._tap.refused,
            "receive_errors": sum(source.errors for source in inputs),
            "receive_buffer_full": sum(udp.receive_drops(source.socket) for source in inputs),
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
