"""Frames of known flows moved by the C of this directory: what both formats have in common (flows.h).

A sender or receiver is the C structure of one end of a connection, and what a call did, read out of it.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection
from enum import IntEnum
from typing import Any

from plait.overlay.sleeve.moved import Delivered, Sent
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
    OTHER = 4
    """Something is ready that is not ours."""


class NativeFlows:
    """The functions; for one thread, as the engine."""

    def __init__(self, engine: CompiledEngine) -> None:
        self.engine = engine
        self.ffi = engine.ffi
        self.ffi.cdef(declarations(*_HEADERS))
        self.library = engine.library
        self.max_inbound: int = self.library.PLAIT_INBOUND_FLOWS


class NativePump:
    """What is known of flows, both ways, and the call that moves their frames."""

    def __init__(self, native: NativeFlows, epoll_fd: int, tap_fd: int, raw: bytearray, data: bytearray) -> None:
        """`raw`: where frames from the tap are put; `data`: where datagrams are."""
        self._ffi, self._library = native.ffi, native.library
        array = self._ffi.typeof("uint8_t[]")
        self._struct = self._ffi.new("struct plait_pump *")
        size = min(len(data), _BURST_BYTES)
        self._kept = [
            self._ffi.from_buffer(array, raw), self._ffi.from_buffer(array, data), self._ffi.new(array, size)
        ]  # fmt: skip
        self._struct.raw, self._struct.data, self._struct.scratch = self._kept
        self._struct.raw_capacity, self._struct.data_capacity = len(raw), size
        self._struct.epoll, self._struct.tap = epoll_fd, tap_fd
        self._flows: list[NativeFlow] = []

    def add_flow(self, flow: "NativeFlow") -> None:
        """Know a flow; if many hash alike, one of them is forgotten."""
        place = self._library.plait_place(flow.struct.head)
        flows = self._struct.flows
        ours = range(place, place + self._library.PLAIT_NEIGHBOURS + 1)
        flows[next((at for at in ours if not flows[at]), place)] = flow.struct
        self._flows.append(flow)

    def can_serve(self, fd: int) -> bool:
        """Say whether a descriptor has a place in the C's table: not one of a large number."""
        return bool(fd < self._library.PLAIT_SOURCES)

    def set_source(self, fd: int, receiver: "NativeReceiver | None") -> None:
        """Say who receives by a descriptor that can be served, None if the core does."""
        source = self._struct.sources[fd]
        source.plait1 = source.weave = self._ffi.NULL
        if receiver is not None:
            setattr(source, receiver.place, receiver.struct)

    def forget_flows(self) -> None:
        """Know no flow from here."""
        struct = self._struct
        self._ffi.memmove(struct.flows, bytes(self._ffi.sizeof(struct.flows)), self._ffi.sizeof(struct.flows))
        struct.last = self._ffi.NULL
        self._flows.clear()

    def run(self, until: float) -> End:
        """Wait for what the epoll descriptor watches, and move frames both ways until something is for the core.

        `until`: seconds of the monotonic clock.
        """
        self._struct.raw_bytes = 0
        return End(self._library.plait_run(self._struct, int(until * _NANOSECONDS)))

    @property
    def at(self) -> int:
        """The descriptor where it ended."""
        return int(self._struct.at)

    @property
    def pending(self) -> int:
        """Bytes of the frame from the tap that is given back."""
        return int(self._struct.raw_bytes)

    @property
    def error(self) -> int:
        """Why nothing could be read from the tap."""
        return int(self._struct.error)


class NativeSender(ABC):
    """The sending end towards one neighbour: frames wait in it for their datagram's others."""

    place: str
    """In struct plait_flow."""

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

    def __init__(self, sender: NativeSender, head: bytes, *, others_are_labelled: bool) -> None:
        """`others_are_labelled`: a frame with labels is of no flow without."""
        self.sender = sender
        ffi = sender.flows.ffi
        self.struct = ffi.new("struct plait_flow *")
        setattr(self.struct, sender.place, sender.struct)
        self.struct.labels = len(head) - MACS_BYTES
        self.struct.is_unlabelled = others_are_labelled and not self.struct.labels
        ffi.memmove(self.struct.head, head, len(head))


class NativeReceiver(ABC):
    """The receiving end of one neighbour."""

    place: str
    """In struct plait_source."""

    def __init__(self, flows: NativeFlows, struct: Any, name: bytes) -> None:
        """`struct`: the C side. `name`: the neighbour's."""
        self.flows = flows
        self.struct = struct
        struct.inbound.tap_error = -1
        flows.ffi.memmove(struct.inbound.name, name, len(name))

    def know(self, heads: Collection[bytes], max_frame: int, *, udp_super_frames: bool) -> None:
        """Take the flows: pairs of addresses whose frames may be written into the tap, up to `max_frame` bytes each."""
        inbound = self.struct.inbound
        inbound.max_frame, inbound.has_udp_super_frames, inbound.number = max_frame, udp_super_frames, len(heads)
        for place, head in zip(inbound.flows, heads, strict=False):
            self.flows.ffi.memmove(place, head, MACS_BYTES)

    def set_descriptors(self, socket_fd: int, tap_fd: int) -> None:
        """Say where it reads (a socket connected to the neighbour) and writes."""
        self.struct.inbound.socket, self.struct.inbound.tap = socket_fd, tap_fd

    @abstractmethod
    def load(self) -> bool:
        """Make it ready for a call; False if there is no key yet, or none that C can use."""

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
        inbound.tap_error = -1
        return delivered

    @abstractmethod
    def _store(self) -> int:
        """Tell the reference which sequences came; gives how many frames the neighbour's were."""
