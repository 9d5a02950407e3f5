"""Frames of known flows moved by flows.c: the structures of both directions, and what a call did, read out of them."""

from collections.abc import Collection
from enum import IntEnum
from typing import NamedTuple

from plait.overlay.sleeve.plait1 import wire
from plait.overlay.sleeve.plait1.codec import Opener, Sealer
from plait.overlay.sleeve.plait1.native.build import NotBuilt
from plait.overlay.sleeve.plait1.native.engine import CompiledEngine

MACS_BYTES, LABELS_BYTES = 12, 8
BATCH_BYTES = 65507
MAX_INBOUND_FLOWS = 32
_ACCEPTED = 256
_NANOSECONDS = 1e9

_DECLARATIONS = f"""
struct plait_sender {{
    struct plait_key *key;
    uint64_t next;
    uint64_t limit;
    int socket;
    uint32_t max_payload;
    uint8_t clear[{wire.HEADER_BYTES}];
    uint64_t bytes;
    uint32_t frames;
    uint32_t datagrams;
    uint32_t failed;
    int error;
    int is_unsegmented;
    uint32_t waiting;
    uint32_t closed;
    uint32_t closed_bytes;
    uint32_t open_bytes;
    uint32_t sizes[64];
    uint8_t batch[{BATCH_BYTES}];
}};
struct plait_flow {{
    struct plait_sender *sender;
    uint32_t labels;
    uint32_t is_unlabelled;
    uint8_t head[{MACS_BYTES + LABELS_BYTES}];
}};
int plait_forward(const struct plait_flow *flow, int tap, uint8_t *raw, size_t capacity, size_t *bytes,
                  uint64_t until, int *error);
void plait_flush(struct plait_sender *sender);
void plait_flow_sizes(size_t *sizes);
struct plait_accepted {{
    uint64_t sequence;
    uint64_t mask[2];
}};
struct plait_receiver {{
    struct plait_key *key;
    uint64_t key_first;
    uint64_t key_last;
    uint64_t newest;
    uint64_t newest_mask[2];
    int socket;
    int tap;
    uint32_t max_frame;
    uint32_t has_udp_super_frames;
    uint8_t name[6];
    uint8_t flags;
    uint8_t inbound;
    uint8_t flows[{MAX_INBOUND_FLOWS}][{MACS_BYTES}];
    uint64_t bytes;
    uint32_t datagrams;
    uint32_t data_datagrams;
    uint32_t frames;
    uint32_t forged;
    uint32_t malformed;
    uint32_t replayed;
    uint32_t refused;
    int tap_error;
    uint32_t accepts;
    struct plait_accepted accepted[{_ACCEPTED}];
    uint64_t at;
    uint64_t size;
    uint64_t step;
    int error;
    uint32_t joined;
    uint32_t joined_bytes;
    uint8_t super[65536];
}};
int plait_deliver(struct plait_receiver *receiver, uint8_t *data, size_t capacity, uint8_t *scratch, uint64_t until);
"""

_LOW = (1 << 64) - 1


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

    frames: int
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
        """Raises NotBuilt if C and Python do not mean the same structures."""
        self.engine = engine
        self.ffi = engine.ffi
        self.ffi.cdef(_DECLARATIONS)
        self._library = engine.library
        sizes = self.ffi.new("size_t[3]")
        self._library.plait_flow_sizes(sizes)
        ours = [self.ffi.sizeof(f"struct plait_{name}") for name in ("sender", "flow", "receiver")]
        if list(sizes) != ours:
            raise NotBuilt(f"the compiled code has structures of {list(sizes)} bytes, not of {ours}")
        self._size = self.ffi.new("size_t *")
        self._error = self.ffi.new("int *")
        self._bytes = self.ffi.typeof("uint8_t[]")
        self._scratch = self.ffi.new("uint8_t[]", 1 << 16)

    def forward(self, flow: "NativeFlow", tap_fd: int, raw: bytearray, size: int, until: float) -> tuple[End, int, int]:
        """Send frames of a flow; if `size` is not 0, one lies in `raw`. `until` is seconds of the monotonic clock.

        Gives why it ended, the bytes of the frame in `raw` that is given back, and an errno if it failed.
        """
        self._size[0] = size
        sender = flow.sender
        sender.struct.next = sender.sealer.next_sequence
        end = self._library.plait_forward(
            flow.struct, tap_fd, self.ffi.from_buffer(self._bytes, raw), len(raw), self._size,
            int(until * _NANOSECONDS), self._error,
        )  # fmt: skip
        sender.sealer.next_sequence = sender.struct.next
        return End(end), self._size[0] if end == End.GIVEN_BACK else 0, self._error[0]

    def flush(self, sender: "NativeSender") -> None:
        """Send what waits in a sender."""
        sender.struct.next = sender.sealer.next_sequence
        self._library.plait_flush(sender.struct)
        sender.sealer.next_sequence = sender.struct.next

    def deliver(self, receiver: "NativeReceiver", data: bytearray, until: float) -> End:
        """Receive and write into the tap; what is given back lies in `data`, see `NativeReceiver.given_back`."""
        return End(
            self._library.plait_deliver(
                receiver.struct, self.ffi.from_buffer(self._bytes, data), min(len(data), len(self._scratch)),
                self._scratch, int(until * _NANOSECONDS),
            )
        )  # fmt: skip


class NativeSender:
    """The sending end towards one neighbour: single frames wait in it for their datagram's others."""

    def __init__(self, flows: NativeFlows, sealer: Sealer, us: bytes) -> None:
        self.sealer = sealer
        self._us = us
        self._flows = flows
        self._key: object = None
        self.struct = flows.ffi.new("struct plait_sender *")

    def arm(self, socket_fd: int, max_payload: int) -> bool:
        """Make it ready for the path and the sequences to come; False if the key is not one of libcrypto's."""
        struct, (key, limit) = self.struct, self.sealer.key_ahead()
        native = self._flows.ffi.NULL if key is None else self._flows.engine.native_key(key)
        if native is None:
            return False
        self._key = key  # the C side lives as long as it
        struct.key, struct.socket, struct.max_payload = native, socket_fd, min(max_payload, BATCH_BYTES)
        struct.limit = min(limit, _LOW)
        clear = wire.clear_header(self._us, wire.Kind.RECORDS, 0, encrypted=key is not None)
        self._flows.ffi.memmove(struct.clear, clear, len(clear))
        return True

    @property
    def is_unsegmented(self) -> bool:
        """The kernel does not segment on this path."""
        return bool(self.struct.is_unsegmented)

    def take(self) -> Sent | None:
        """Give what was done since the last call, None if nothing."""
        struct = self.struct
        if not (struct.frames or struct.datagrams or struct.failed):
            return None
        sent = Sent(struct.frames, struct.datagrams, struct.bytes, struct.failed, struct.error)
        struct.frames = struct.datagrams = struct.bytes = struct.failed = struct.error = 0
        return sent


class NativeFlow:
    """Frames that begin with these addresses (and labels), and who sends them."""

    def __init__(self, flows: NativeFlows, sender: NativeSender, head: bytes, *, others_are_labelled: bool) -> None:
        """`others_are_labelled`: a frame with labels is none of a flow without."""
        self.sender = sender
        self.struct = flows.ffi.new("struct plait_flow *")
        self.struct.sender = sender.struct
        self.struct.labels = len(head) - MACS_BYTES
        self.struct.is_unlabelled = others_are_labelled and not self.struct.labels
        flows.ffi.memmove(self.struct.head, head, len(head))


class NativeReceiver:
    """The receiving end of one neighbour."""

    def __init__(self, flows: NativeFlows, opener: Opener, name: bytes) -> None:
        self._flows = flows
        self._opener = opener
        self._key: object = None
        self.struct = flows.ffi.new("struct plait_receiver *")
        self.struct.flags = opener.flags
        flows.ffi.memmove(self.struct.name, name, len(name))

    def know(self, heads: Collection[bytes], max_frame: int, *, udp_super_frames: bool) -> None:
        """Take the flows: pairs of addresses whose frames may be written into the tap, up to `max_frame` bytes each."""
        struct = self.struct
        struct.max_frame, struct.has_udp_super_frames, struct.inbound = max_frame, udp_super_frames, len(heads)
        for place, head in zip(struct.flows, heads, strict=False):
            self._flows.ffi.memmove(place, head, MACS_BYTES)

    def arm(self, socket_fd: int, tap_fd: int) -> bool:
        """Make it ready for a call; False if there is no key yet, or not one of libcrypto's."""
        struct, schedule = self.struct, self._opener.schedule
        struct.socket, struct.tap = socket_fd, tap_fd
        if schedule is None:
            return True
        newest = schedule.newest()
        if newest is None:
            return False
        key, struct.key_first, struct.key_last = newest
        native = self._flows.engine.native_key(key)
        if native is None:
            return False
        self._key = key
        struct.key = native
        sequence = max(self._opener.window.highest, 0)
        seen = self._opener.window.seen(sequence)
        struct.newest, struct.newest_mask[0], struct.newest_mask[1] = sequence, seen & _LOW, seen >> 64 & _LOW
        return True

    @property
    def given_back(self) -> tuple[int, int, bool]:
        """How many bytes lie in the buffer, how long each datagram of them is, and whether they are a whole burst."""
        return self.struct.size, self.struct.step, not self.struct.at

    @property
    def error(self) -> int:
        """Why nothing could be received."""
        return int(self.struct.error)

    def take(self) -> Delivered | None:
        """Give what was done since the last call, None if nothing; the opener's window knows of it then."""
        struct = self.struct
        if not struct.datagrams:
            return None
        window, accepted = self._opener.window, struct.accepted
        for number in range(struct.accepts):
            each = accepted[number]
            window.add(each.sequence, each.mask[1] << 64 | each.mask[0])
        self._opener.data_datagrams += struct.data_datagrams
        delivered = Delivered(
            struct.datagrams, struct.data_datagrams, struct.bytes, struct.frames, struct.forged, struct.malformed,
            struct.replayed, struct.refused, None if struct.tap_error < 0 else struct.tap_error,
        )  # fmt: skip
        struct.datagrams = struct.data_datagrams = struct.bytes = struct.frames = 0
        struct.forged = struct.malformed = struct.replayed = struct.refused = struct.accepts = 0
        return delivered
