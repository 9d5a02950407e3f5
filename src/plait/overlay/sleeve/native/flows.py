"""Frames of known flows moved by the C of this directory: what both formats have in common (flows.h).

A sender or receiver is the C structure of one end of a connection, and what a call did, read out of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from enum import IntEnum
from typing import Any, NamedTuple

from plait.overlay.sleeve.native.declarations import declarations
from plait.overlay.sleeve.native.engine import CompiledEngine

MACS_BYTES = 12
_BURST_BYTES = 1 << 16
_NANOSECONDS = 1e9
_HEADERS = ("datagrams.h", "flows.h", "plait1_flows.h", "weave_flows.h")


class End(IntEnum):
    """Why a call came back."""

    EMPTY = 0
    """Nothing waits."""
    GIVEN_BACK = 1
    """What was read last is for the core."""
    TIME_UP = 2
    FAILED = 3
    """Nothing can be read; the errno says why."""


class Sent(NamedTuple):
    """What a sender did."""

    captured: int
    """Frames and super-frames from the tap."""
    frames: int
    """What these became."""
    datagrams: int
    bytes: int
    failed: int
    """Datagrams."""
    error: int
    """The errno of the last that failed."""


class Delivered(NamedTuple):
    """What a receiver did."""

    datagrams: int
    data_datagrams: int
    bytes: int
    """Of the datagrams that were not given back."""
    frames: int
    """Of the neighbour."""
    injected: int
    """Frames and super-frames that these became."""
    forged: int
    malformed: int
    replayed: int
    refused: int
    """Frames that the tap did not take."""
    tap_errno: int | None
    """Of the last frame that was written; None if there was none."""


class NativeFlows:
    """The functions; for one thread, as the engine."""

    def __init__(self, engine: CompiledEngine) -> None:
        self.engine = engine
        self.ffi = engine.ffi
        self.ffi.cdef(declarations(*_HEADERS))
        self.library = engine.library
        self.max_inbound: int = self.library.PLAIT_INBOUND_FLOWS
        self._size = self.ffi.new("size_t *")
        self._error = self.ffi.new("int *")
        self._bytes = self.ffi.typeof("uint8_t[]")
        self._scratch = self.ffi.new("uint8_t[]", _BURST_BYTES)

    def forward(self, flow: "NativeFlow", tap_fd: int, raw: bytearray, size: int, until: float) -> tuple[End, int, int]:
        """Send frames of a flow; if `size` is not 0, one lies in `raw`. `until` is seconds of the monotonic clock.

        Gives why it ended, the bytes of the frame in `raw` that is given back, and an errno if it failed.
        """
        self._size[0] = size
        flow.sender.load()
        end = self.library.plait_forward(
            flow.struct, tap_fd, self.ffi.from_buffer(self._bytes, raw), len(raw), self._size,
            int(until * _NANOSECONDS), self._error,
        )  # fmt: skip
        flow.sender.store()
        return End(end), self._size[0] if end == End.GIVEN_BACK else 0, self._error[0]

    def deliver(self, receiver: "NativeReceiver", data: bytearray, until: float) -> End:
        """Receive and write into the tap; what is given back lies in `data`, see `NativeReceiver.given_back`."""
        buffer, size = self.ffi.from_buffer(self._bytes, data), min(len(data), _BURST_BYTES)
        return End(receiver.function(receiver.struct, buffer, size, self._scratch, int(until * _NANOSECONDS)))


class NativeSender(ABC):
    """The sending end towards one neighbour: frames wait in it for their datagram's others."""

    def __init__(self, flows: NativeFlows, struct: Any) -> None:
        """`struct`: the C side."""
        self.flows = flows
        self.struct = struct

    @abstractmethod
    def load(self) -> None:
        """Tell the C side what may have changed since the last call."""

    @abstractmethod
    def store(self) -> None:
        """Note what a call of C changed."""

    @abstractmethod
    def flush(self) -> None:
        """Send what waits."""

    @abstractmethod
    def take(self) -> Sent | None:
        """Give what was done since the last call, None if nothing."""

    @property
    def is_unsegmented(self) -> bool:
        """The kernel does not segment on this path."""
        return bool(self.struct.batch.is_unsegmented)

    def _take(self, frames: int) -> Sent | None:
        """Give what the batch counted; `frames`: what the captured ones became."""
        batch = self.struct.batch
        if not (batch.frames or batch.datagrams or batch.failed):
            return None
        sent = Sent(batch.frames, frames, batch.datagrams, batch.bytes, batch.failed, batch.error)
        batch.frames = batch.datagrams = batch.bytes = batch.failed = batch.error = 0
        return sent


class NativeFlow:
    """Frames that begin with these addresses (and labels), and who sends them."""

    def __init__(self, sender: NativeSender, place: str, head: bytes, *, others_are_labelled: bool) -> None:
        """`place`: the sender's in the structure. `others_are_labelled`: one with labels is of no flow without."""
        self.sender = sender
        ffi = sender.flows.ffi
        self.struct = ffi.new("struct plait_flow *")
        setattr(self.struct, place, sender.struct)
        self.struct.labels = len(head) - MACS_BYTES
        self.struct.is_unlabelled = others_are_labelled and not self.struct.labels
        ffi.memmove(self.struct.head, head, len(head))


class NativeReceiver(ABC):
    """The receiving end of one neighbour."""

    def __init__(self, flows: NativeFlows, struct: Any, function: Any, name: bytes) -> None:
        """`struct` and `function`: the C side, and what delivers with it. `name`: the neighbour's."""
        self.flows = flows
        self.struct = struct
        self.function = function
        flows.ffi.memmove(struct.inbound.name, name, len(name))

    def know(self, heads: Collection[bytes], max_frame: int, *, udp_super_frames: bool) -> None:
        """Take the flows: pairs of addresses whose frames may be written into the tap, up to `max_frame` bytes each."""
        inbound = self.struct.inbound
        inbound.max_frame, inbound.has_udp_super_frames, inbound.number = max_frame, udp_super_frames, len(heads)
        for place, head in zip(inbound.flows, heads, strict=False):
            self.flows.ffi.memmove(place, head, MACS_BYTES)

    def arm(self, socket_fd: int, tap_fd: int) -> bool:
        """Make it ready for a call; False if there is no key yet, or none that C can use."""
        self.struct.inbound.socket, self.struct.inbound.tap = socket_fd, tap_fd
        return self._load()

    @property
    def given_back(self) -> tuple[int, int, bool]:
        """How many bytes lie in the buffer, how long each datagram of them is, and whether they are a whole burst."""
        inbound = self.struct.inbound
        return inbound.size, inbound.step, not inbound.at

    @property
    def error(self) -> int:
        """Why nothing could be received."""
        return int(self.struct.inbound.error)

    def take(self) -> Delivered | None:
        """Give what was done since the last call, None if nothing; the reference knows of what came then."""
        inbound = self.struct.inbound
        if not inbound.datagrams:
            return None
        frames = self._store()
        delivered = Delivered(
            inbound.datagrams, inbound.data_datagrams, inbound.bytes, frames, inbound.frames, inbound.forged,
            inbound.malformed, inbound.replayed, inbound.refused,
            None if inbound.tap_error < 0 else inbound.tap_error,
        )  # fmt: skip
        inbound.datagrams = inbound.data_datagrams = inbound.bytes = inbound.frames = 0
        inbound.forged = inbound.malformed = inbound.replayed = inbound.refused = inbound.accepts = 0
        return delivered

    @abstractmethod
    def _load(self) -> bool:
        """Tell the C side of key and sequences; False if it cannot be used."""

    @abstractmethod
    def _store(self) -> int:
        """Tell the reference which sequences came; gives how many frames the neighbour's were."""
