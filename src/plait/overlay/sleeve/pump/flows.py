"""Moves the frames of known flows past the core: it decides about the first of a flow, compiled code does the rest.

What is known is forgotten as soon as the core's tables change, and after FLOW_SECONDS, so that the core sees each
flow now and then (its MAC table must know who still sends). Pure but for the descriptors that the compiled code uses.
"""

from typing import NamedTuple

from plait.overlay.sleeve.native.flows import End, NativeFlow, NativeFlows, NativePump, NativeReceiver, NativeSender
from plait.overlay.sleeve.native.plait1_flows import Plait1Receiver, Plait1Sender
from plait.overlay.sleeve.native.weave_flows import WeaveReceiver, WeaveSender
from plait.overlay.sleeve.pump.core import PumpCore
from plait.overlay.sleeve.pump.input import UdpInput
from plait.overlay.sleeve.pump.link import Link, Socket
from plait.overlay.sleeve.pump.output import UdpOutput
from plait.overlay.sleeve.pump.plait1_link import Plait1Link
from plait.overlay.sleeve.pump.tap_port import TapGone, TapPort
from plait.overlay.sleeve.pump.weave_link import WeaveLink

FLOW_SECONDS = 20.0
MAX_FLOWS = 1024
"""From containers here; beyond it all are learned again. In the other direction the C has its own limit for each."""

_UNLIMITED = (1 << 32) - 1


class Rest(NamedTuple):
    """Datagrams of a neighbour for the core, in the buffer: `size` bytes, `step` in each."""

    link: Link
    source: UdpInput
    size: int
    step: int
    is_whole: bool
    """Nothing of the burst was taken before: its first datagram says who sent it."""


class Frame:
    """A frame for the core is pending at the tap."""


class Flows:
    """The flows of one pump."""

    def __init__(
        self, native: NativeFlows, core: PumpCore, tap: TapPort, output: UdpOutput, buffer: bytearray, epoll_fd: int
    ) -> None:
        """`buffer`: of the neighbours' sockets. `epoll_fd` watches these, the tap and whatever else there is."""
        self._native = native
        self._core = core
        self._tap = tap
        self._output = output
        self._pump = NativePump(native, epoll_fd, tap.fd, tap.buffer, buffer)
        self._version = -1
        self._forget_at = 0.0
        self._outbound: set[bytes] = set()
        self._senders: dict[Link, NativeSender] = {}
        self._inbound: dict[Link, dict[bytes, None]] = {}
        self._receivers: dict[Link, NativeReceiver] = {}
        self._sources: dict[int, tuple[Link, UdpInput]] = {}
        self._served: set[int] = set()

    # The loop's side

    def watch(self, link: Link, source: UdpInput) -> None:
        """Receive by a neighbour's own socket."""
        fd = source.socket.fileno()
        self._sources[fd] = link, source
        receiver = self._receivers.get(link)
        if receiver is not None:
            receiver.set_descriptors(fd, self._tap.fd)

    def unwatch(self, source: UdpInput) -> None:
        """Leave a socket alone that is about to be closed."""
        fd = source.socket.fileno()
        if fd in self._served:
            self._served.discard(fd)
            self._pump.set_source(fd, None)
        self._sources.pop(fd, None)

    def listen(self, peer: int) -> None:
        """Open a socket of its own for a neighbour of Weave's format whose address is known: bursts of one come there.

        One of plait1 has it for sending.
        """
        link = self._core.link(peer)
        if isinstance(link, WeaveLink) and link.path.remote is not None:
            self._output.listen(link)

    def serves(self, fd: int) -> bool:
        """Say whether `run` reads what comes in by a descriptor."""
        return fd == self._tap.fd or fd in self._served

    def forget(self) -> None:
        """Ask the core again about everything: call before its tables are changed."""
        self._version = -1

    def run(self, until: float, now: float) -> Rest | Frame | None:
        """Wait for what the loop watches and move frames until something is for the core: gives it, or None.

        None means, too, that the time is up (of the monotonic clock) or that something else is ready. Raises TapGone.
        """
        self._renew(now)
        for link, sender in self._senders.items():
            self._allow(link, sender, now)
            sender.load()
        for fd, (link, source) in self._sources.items():
            self._serve(fd, link, source)
        end = self._pump.run(until)
        for link, sender in self._senders.items():
            self._note_sent(link, sender, now)
        for link, receiver in self._receivers.items():
            self._note_delivered(link, receiver)
        return self._given_back(end) if end in (End.GIVEN_BACK, End.FAILED) else None

    def _given_back(self, end: End) -> Rest | Frame | None:
        pump = self._pump
        if pump.at == self._tap.fd:
            if end is End.FAILED:
                raise TapGone.of(pump.error)
            self._tap.pending = pump.pending
            return Frame()
        link, source = self._sources[pump.at]
        receiver = self._receivers[link]
        if end is End.FAILED:
            source.note_error(receiver.error)
            return None
        return Rest(link, source, *receiver.given_back)

    # From the tap

    def learn_outbound(self, flow: tuple[Link, bytes] | None) -> None:
        """Take what the core says of the frame that it was given last (`outbound_flow`, asked after the frame)."""
        if flow is None or flow[1] in self._outbound:
            return
        link, head = flow
        sender = self._sender(link)
        if sender is None:
            return
        self._senders[link] = sender
        if len(self._outbound) >= MAX_FLOWS:
            self._outbound.clear()
            self._pump.forget_flows()
        self._outbound.add(head)
        self._pump.add_flow(NativeFlow(sender, head, others_are_labelled=self._core.has_labels))

    def _sender(self, link: Link) -> NativeSender | None:
        """Give what sends to a neighbour, ready for its path."""
        known = self._senders.get(link)
        if isinstance(link, Plait1Link):
            socket_fd = self._output.segmenting_socket(link)
            plait1 = known if isinstance(known, Plait1Sender) else Plait1Sender(self._native, link.sealer, link.us)
            return plait1 if socket_fd is not None and plait1.arm(socket_fd, link.path.max_payload) else None
        if isinstance(link, WeaveLink):
            route = self._output.shared_route(link)
            ends = link.us, link.name
            weave = known if isinstance(known, WeaveSender) else WeaveSender(self._native, link.sealer, *ends)
            return weave if route is not None and weave.arm(route, link.path) else None
        return None

    def _allow(self, link: Link, sender: NativeSender, now: float) -> None:
        """Say how much may leave in the next call."""
        if isinstance(sender, WeaveSender) and isinstance(link, WeaveLink):
            sender.allowance = _UNLIMITED if link.pacer is None else link.pacer.allowance(now)

    def _note_sent(self, link: Link, sender: NativeSender, now: float) -> None:
        sender.store()
        sent = sender.take()
        if sent is None:
            return
        socket = Socket.PEER
        if isinstance(sender, WeaveSender):
            socket = Socket.DF if sender.sends_df else Socket.PLAIN
        if isinstance(link, WeaveLink) and link.pacer is not None:
            link.pacer.spend(sent.datagrams + sent.failed)
        self._core.forwarded(link, socket, sent, now)
        if sender.is_unsegmented:
            self._output.cannot_segment(link)
            self._version = -1

    # From neighbours

    def learn_inbound(self, link: Link) -> None:
        """Ask the core about the frame that it wrote into the tap last."""
        macs, self._core.last_injected = self._core.last_injected, b""
        known = self._inbound.setdefault(link, {})
        if macs in known or not self._core.is_inbound_flow(link, macs):
            return
        if len(known) >= self._native.max_inbound:
            del known[next(iter(known))]
        known[macs] = None
        receiver = self._receivers.get(link)
        if receiver is not None:
            self._teach(receiver, known)

    def _serve(self, fd: int, link: Link, source: UdpInput) -> None:
        """Have the C receive by a socket as soon as there is anything that it can deliver."""
        receiver = self._receivers.get(link)
        if receiver is None:
            receiver = self._receivers[link] = self._new_receiver(link)
            receiver.set_descriptors(fd, self._tap.fd)
            self._teach(receiver, self._inbound.get(link, {}))
        if (receiver.load() and self._pump.can_serve(fd)) is not (fd in self._served):
            self._served ^= {fd}
            self._pump.set_source(fd, receiver if fd in self._served else None)

    def _new_receiver(self, link: Link) -> NativeReceiver:
        if isinstance(link, Plait1Link):
            return Plait1Receiver(self._native, link.opener, link.name)
        if isinstance(link, WeaveLink):
            return WeaveReceiver(self._native, link.opener, link.us, link.name)
        raise TypeError(f"{type(link).__name__} has no receiver in C")

    def _note_delivered(self, link: Link, receiver: NativeReceiver) -> None:
        done = receiver.take()
        if done is not None:
            self._core.delivered(link, done)
            self._tap.note_written(done.refused, done.tap_errno)

    def _teach(self, receiver: NativeReceiver, known: dict[bytes, None]) -> None:
        core = self._core
        receiver.know(known, core.max_injected, udp_super_frames=core.takes_udp_super_frames)

    # What is forgotten

    def _renew(self, now: float) -> None:
        if self._version == self._core.version and now < self._forget_at:
            return
        if self._version == -1:
            self._drop_ends()
        self._outbound.clear()
        self._pump.forget_flows()
        # Decisions only: a neighbour that floods addresses must not have all ends made anew for each.
        self._inbound.clear()
        for receiver in self._receivers.values():
            self._teach(receiver, {})
        self._version = self._core.version
        self._forget_at = now + FLOW_SECONDS

    def _drop_ends(self) -> None:
        """Let go of the ends of connections that are no more."""
        is_there = self._core.has_link
        self._senders = {link: sender for link, sender in self._senders.items() if is_there(link)}
        self._receivers = {link: receiver for link, receiver in self._receivers.items() if is_there(link)}
