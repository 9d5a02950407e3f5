"""Moves the frames of known flows past the core: it decides about the first of a flow, compiled code does the rest.

What is known is forgotten as soon as the core's tables change, and after FLOW_SECONDS, so that the core sees each
flow now and then (its MAC table must know who still sends). Pure but for the descriptors that the compiled code uses.
"""

from time import monotonic
from typing import NamedTuple

from plait.overlay.sleeve.native.flows import End, NativeFlow, NativeFlows, NativeReceiver, NativeSender
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
    """Datagrams for the core, in the buffer: `size` bytes, `step` in each."""

    size: int
    step: int
    is_whole: bool
    """Nothing of the burst was taken before: its first datagram says who sent it."""


class Flows:
    """The flows of one pump."""

    def __init__(self, native: NativeFlows, core: PumpCore, tap: TapPort, output: UdpOutput, buffer: bytearray) -> None:
        """`buffer`: of the neighbours' sockets."""
        self._native = native
        self._core = core
        self._tap = tap
        self._output = output
        self._buffer = buffer
        self._version = -1
        self._forget_at = 0.0
        self._outbound: dict[bytes, tuple[Link, NativeFlow]] = {}
        self._last: tuple[Link, NativeFlow] | None = None
        self._senders: dict[Link, NativeSender] = {}
        self._waiting: dict[Link, None] = {}
        self._inbound: dict[Link, dict[bytes, None]] = {}
        self._receivers: dict[Link, NativeReceiver] = {}

    def forget(self) -> None:
        """Send what waits, and ask the core again about everything: call before its tables are changed."""
        self._forget_flows()
        self._senders.clear()
        self._receivers.clear()

    # From the tap

    def forward(self, until: float, now: float) -> bool:
        """Send frames of known flows; False if there is one for the core, or none is known. Raises TapGone."""
        self._renew(now)
        flow = self._flow_of_pending() if self._tap.pending else self._last
        while flow is not None:
            link, native = self._last = flow
            self._allow(link, now)
            end, size, errno = self._native.forward(native, self._tap.fd, self._tap.buffer, self._tap.pending, until)
            self._tap.pending = size
            self._waiting[link] = None
            self._note(link, now)
            if end is End.FAILED:
                raise TapGone.of(errno)
            if end is not End.GIVEN_BACK:
                self.flush(now)
                return True
            found = self._flow_of_pending()
            flow = None if found is flow else found
        self.flush(now)
        return False

    def learn_outbound(self, flow: tuple[Link, bytes] | None) -> None:
        """Take what the core says of the frame that it was given last (`outbound_flow`, asked after the frame)."""
        if flow is None:
            return
        link, head = flow
        sender, place = self._sender(link)
        if sender is None:
            return
        self._senders[link] = sender
        if len(self._outbound) >= MAX_FLOWS:
            self._outbound.clear()
        native = NativeFlow(sender, place, head, others_are_labelled=self._core.has_labels)
        self._last = self._outbound[head] = link, native

    def flush(self, now: float | None = None) -> None:
        """Send the frames that wait."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        for link in waiting:
            self._senders[link].flush()
            self._note(link, monotonic() if now is None else now)

    def _sender(self, link: Link) -> tuple[NativeSender | None, str]:
        """Give what sends to a neighbour, ready for its path, and its place in a flow; None if there is none."""
        known = self._senders.get(link)
        if isinstance(link, Plait1Link):
            socket_fd = self._output.segmenting_socket(link)
            plait1 = known if isinstance(known, Plait1Sender) else Plait1Sender(self._native, link.sealer, link.us)
            is_ready = socket_fd is not None and plait1.arm(socket_fd, link.path.max_payload)
            return plait1 if is_ready else None, "plait1"
        if isinstance(link, WeaveLink):
            route = self._output.shared_route(link)
            ends = link.us, link.name
            weave = known if isinstance(known, WeaveSender) else WeaveSender(self._native, link.sealer, *ends)
            return weave if route is not None and weave.arm(route, link.path) else None, "weave"
        return None, ""

    def _flow_of_pending(self) -> tuple[Link, NativeFlow] | None:
        return self._outbound.get(self._core.flow_head(self._tap.head()))

    def _allow(self, link: Link, now: float) -> None:
        """Say how much may leave until the next flush."""
        sender = self._senders[link]
        if isinstance(sender, WeaveSender) and isinstance(link, WeaveLink) and link not in self._waiting:
            sender.allowance = _UNLIMITED if link.pacer is None else link.pacer.allowance(now)

    def _note(self, link: Link, now: float) -> None:
        sender = self._senders[link]
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

    def listen(self, peer: int) -> None:
        """Open a socket of its own for a neighbour of Weave's format whose address is known: bursts of one come there.

        One of plait1 has it for sending.
        """
        link = self._core.link(peer)
        if isinstance(link, WeaveLink) and link.path.remote is not None:
            self._output.listen(link)

    def deliver(self, link: Link, source: UdpInput, until: float, now: float) -> Rest | None:
        """Write frames of known flows into the tap; gives what is for the core, None if nothing waits any more."""
        self._renew(now)
        receiver = self._receiver(link, source)
        if receiver is None:
            burst = source.read()
            if burst is None:
                return None
            self._core.counters["received"] += max(-(-burst.size // burst.step), 1)
            return Rest(burst.size, burst.step, True)
        end = self._native.deliver(receiver, self._buffer, until)
        done = receiver.take()
        if done is not None:
            self._core.delivered(link, done)
            self._tap.note_written(done.refused, done.tap_errno)
        if end is End.FAILED:
            source.note_error(receiver.error)
        return Rest(*receiver.given_back) if end is End.GIVEN_BACK else None

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

    def _receiver(self, link: Link, source: UdpInput) -> NativeReceiver | None:
        receiver = self._receivers.get(link)
        if receiver is None:
            if isinstance(link, Plait1Link):
                receiver = Plait1Receiver(self._native, link.opener, link.name)
            elif isinstance(link, WeaveLink):
                receiver = WeaveReceiver(self._native, link.opener, link.us, link.name)
            else:
                return None
            self._receivers[link] = receiver
            self._teach(receiver, self._inbound.get(link, {}))
        return receiver if receiver.arm(source.socket.fileno(), self._tap.fd) else None

    def _teach(self, receiver: NativeReceiver, known: dict[bytes, None]) -> None:
        core = self._core
        receiver.know(known, core.max_injected, udp_super_frames=core.takes_udp_super_frames)

    def _renew(self, now: float) -> None:
        if self._version != self._core.version or now >= self._forget_at:
            self._forget_flows()
            self._version = self._core.version
            self._forget_at = now + FLOW_SECONDS

    def _forget_flows(self) -> None:
        """Forget decisions only: a neighbour that floods addresses must not have all ends made anew for each."""
        self.flush()
        self._outbound.clear()
        self._inbound.clear()
        self._last = None
        for receiver in self._receivers.values():
            self._teach(receiver, {})
