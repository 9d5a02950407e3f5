"""Moves the frames of known flows past the core: it decides about the first of a flow, compiled code does the rest.

What is known is forgotten as soon as the core's tables change, and after FLOW_SECONDS, so that the core sees each
flow now and then (its MAC table must know who still sends). Pure but for the descriptors that the compiled code uses.
"""

from time import monotonic
from typing import NamedTuple

from plait.overlay.sleeve.plait1.native.flows import (
    MAX_INBOUND_FLOWS,
    End,
    NativeFlow,
    NativeFlows,
    NativeReceiver,
    NativeSender,
)
from plait.overlay.sleeve.pump.core import PumpCore
from plait.overlay.sleeve.pump.input import UdpInput
from plait.overlay.sleeve.pump.link import Link, Payloads, Socket
from plait.overlay.sleeve.pump.output import UdpOutput
from plait.overlay.sleeve.pump.plait1_link import Plait1Link
from plait.overlay.sleeve.pump.tap_port import TapGone, TapPort

FLOW_SECONDS = 20.0
MAX_FLOWS = 1024
"""From containers here; beyond it all are learned again. In the other direction MAX_INBOUND_FLOWS of each neighbour."""


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
        self._outbound: dict[bytes, tuple[Plait1Link, NativeFlow]] = {}
        self._last: tuple[Plait1Link, NativeFlow] | None = None
        self._senders: dict[Plait1Link, NativeSender] = {}
        self._waiting: dict[Plait1Link, None] = {}
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

    def learn_outbound(self, flow: tuple[Plait1Link, bytes] | None) -> None:
        """Take what the core says of the frame that it was given last (`outbound_flow`, asked after the frame)."""
        if flow is None:
            return
        link, head = flow
        socket_fd = self._output.segmenting_socket(link)
        if socket_fd is None:
            return
        sender = self._senders.get(link)
        if sender is None:
            sender = self._senders[link] = NativeSender(self._native, link.sealer, link.us)
        if sender.arm(socket_fd, link.path.max_payload):
            if len(self._outbound) >= MAX_FLOWS:
                self._outbound.clear()
            native = NativeFlow(self._native, sender, head, others_are_labelled=self._core.has_labels)
            self._last = self._outbound[head] = link, native

    def flush(self, now: float | None = None) -> None:
        """Send the single frames that wait."""
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        for link in waiting:
            self._native.flush(self._senders[link])
            self._note(link, monotonic() if now is None else now)

    def _flow_of_pending(self) -> tuple[Plait1Link, NativeFlow] | None:
        return self._outbound.get(self._core.flow_head(self._tap.head()))

    def _note(self, link: Plait1Link, now: float) -> None:
        sender = self._senders[link]
        sent = sender.take()
        if sent is None:
            return
        self._core.forwarded(link, sent.frames, sent.datagrams, sent.bytes)
        if sent.failed:
            self._core.send_failed(Payloads(link, Socket.PEER, []), sent.failed, sent.error, now)
        if sender.is_unsegmented:
            self._output.cannot_segment(link)
            self._version = -1

    # From neighbours

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
            self._core.counters["received"] += done.datagrams
            rejected = {"forged": done.forged, "malformed": done.malformed, "replayed": done.replayed}
            self._core.delivered(link, done.frames, done.data_datagrams, done.bytes, rejected)
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
        if len(known) >= MAX_INBOUND_FLOWS:
            del known[next(iter(known))]
        known[macs] = None
        receiver = self._receivers.get(link)
        if receiver is not None:
            self._teach(receiver, known)

    def _receiver(self, link: Link, source: UdpInput) -> NativeReceiver | None:
        if not isinstance(link, Plait1Link):
            return None
        receiver = self._receivers.get(link)
        if receiver is None:
            receiver = self._receivers[link] = NativeReceiver(self._native, link.opener, link.name)
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
