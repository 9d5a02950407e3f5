"""Hosts with a real pump core, an engine and a cutter; the test carries their datagrams by hand."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from plait.mesh.name import PeerName
from plait.overlay.sleeve import ipc
from plait.overlay.sleeve.cutting import Cutter, PythonCutter
from plait.overlay.sleeve.plait1.engine import Engine, PythonEngine
from plait.overlay.sleeve.plait1.superframe import PLAIN_VNET
from plait.overlay.sleeve.pump.core import PumpCore, ToBridge, Work
from plait.overlay.sleeve.pump.link import Outgoing, Payloads, Socket

SOURCE = ("192.0.2.1", 6783)


@dataclass(frozen=True, slots=True)
class Sent:
    """Datagrams that left in one piece of work, all but the last of one length if `is_super`."""

    peer: int
    socket: Socket
    payloads: list[bytes]
    address: ipc.Endpoint | None = None
    is_super: bool = False
    is_data: bool = True

    @property
    def df(self) -> bool:
        return self.socket is not Socket.PLAIN


class PumpHost:
    """A core whose work is done by taking notes: `sent` for the network, `injected` for the bridge."""

    def __init__(
        self,
        name: int,
        *,
        udp_super_frames: bool = True,
        engine: Engine | None = None,
        cutter: Cutter | None = None,
    ) -> None:
        """Without others the references in Python work."""
        self.name = name
        tools = engine or PythonEngine(), cutter or PythonCutter(joins=True)
        self.core = PumpCore(name, *tools, udp_super_frames=udp_super_frames)
        self.sent: list[Sent] = []
        self.injected: list[bytes] = []
        """Behind their virtio-net headers."""

    def apply(self, *messages: ipc.ToPump, now: float = 0.0) -> None:
        for message in messages:
            self.core.apply(message, now)

    def captured(self, frame: bytes, now: float = 0.0) -> None:
        """A single frame with a finished checksum."""
        self.core.captured(PLAIN_VNET + frame, now)

    def captured_raw(self, raw: bytes, now: float = 0.0) -> None:
        """A frame or super-frame as the tap gives it."""
        if raw[1]:
            self._do(self.core.drain(now))
            self._do(self.core.captured_super(memoryview(raw), now))
        else:
            self.core.captured(raw, now)

    def received(self, payload: bytes, source: ipc.Endpoint = SOURCE, now: float = 0.0) -> None:
        """One datagram."""
        self._do(self.core.received(bytearray(payload), len(payload), max(len(payload), 1), source, now))

    def received_burst(self, payloads: list[bytes], source: ipc.Endpoint = SOURCE, now: float = 0.0) -> None:
        """Datagrams that the kernel merged: the first one's length is that of all but the last."""
        data = bytearray(b"".join(payloads))
        size = len(data)
        data += b"\xee" * 100  # what an earlier call left in the buffer
        self._do(self.core.received(data, size, len(payloads[0]), source, now))

    def drain(self, now: float = 0.0) -> list[Sent]:
        """Everything that is to be sent, once."""
        self._do(self.core.drain(now))
        sent, self.sent = self.sent, []
        return sent

    def take_raw(self, now: float = 0.0) -> list[bytes]:
        """Frames for the bridge behind virtio-net headers, once."""
        self._do(self.core.drain(now))
        injected, self.injected = self.injected, []
        return injected

    def take_injections(self) -> list[bytes]:
        """Frames for the bridge that need nothing done by the kernel, once."""
        raws = self.take_raw()
        assert all(raw.startswith(PLAIN_VNET) for raw in raws)
        return [raw[len(PLAIN_VNET) :] for raw in raws]

    def counters(self) -> dict[str, int]:
        """Those that are not zero."""
        return {name: number for name, number in self.core.stats().counters.items() if number}

    def of_peer(self, peer: int) -> dict[str, int]:
        return self.core.stats().peers[peer]

    def take_messages(self) -> list[ipc.FromPump]:
        return self.core.take_messages()

    def _do(self, work: Iterable[Work]) -> None:
        for each in work:
            if isinstance(each, ToBridge):
                self.injected += [b"".join(pieces) for pieces in each.frames]
            else:
                self.sent.append(self._send(each))

    def _send(self, outgoing: Outgoing) -> Sent:
        if isinstance(outgoing, Payloads):
            payloads, address = list(outgoing.payloads), outgoing.address
            sent = Sent(outgoing.link.peer, outgoing.socket, payloads, address, is_data=outgoing.is_data)
        else:
            segments = outgoing.segments
            whole = b"".join(segments.buffers)
            payloads = [whole[at : at + segments.size] for at in range(0, len(whole), segments.size)]
            assert (len(whole), len(payloads)) == (segments.total, segments.count)
            sent = Sent(outgoing.link.peer, Socket.PEER, payloads, is_super=True)
        self.core.sent(outgoing, len(payloads), sum(map(len, payloads)))
        return sent


def carry(
    sender: PumpHost, receivers: Mapping[PeerName, PumpHost], now: float = 0.0, *, merged: bool = False
) -> list[Sent]:
    """Bring what a host sends to the hosts it is for. `merged`: datagrams of a super-frame come in one call."""
    sent = sender.drain(now)
    for each in sent:
        receiver = receivers[PeerName(each.peer)]
        if merged and each.is_super:
            receiver.received_burst(each.payloads, SOURCE, now)
        else:
            for payload in each.payloads:
                receiver.received(payload, SOURCE, now)
    return sent


def datagrams(sent: Iterable[Sent]) -> list[bytes]:
    return [payload for each in sent for payload in each.payloads]
