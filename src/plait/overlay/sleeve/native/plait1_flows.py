"""Flows in the format between two plait nodes: the C structures of plait1_flows.h, with the keys of a link's ends."""

from plait.overlay.sleeve.datagram import MAX_PAYLOAD_BYTES
from plait.overlay.sleeve.moved import Sent
from plait.overlay.sleeve.native.flows import NativeFlows, NativeReceiver, NativeSender
from plait.overlay.sleeve.plait1 import wire
from plait.overlay.sleeve.plait1.codec import Opener, Sealer
from plait.overlay.sleeve.plait1.engine import MAX_SEND_SEGMENTS

_LOW = (1 << 64) - 1


class Plait1Sender(NativeSender):
    """See NativeSender."""

    place = "plait1"

    def __init__(self, flows: NativeFlows, sealer: Sealer, us: bytes) -> None:
        super().__init__(flows, flows.ffi.new("struct plait_sender *"))
        self._sealer = sealer
        self._us = us
        self._key: object = None

    def arm(self, socket_fd: int, max_payload: int) -> bool:
        """Make it ready for the path and the sequences to come; False if the key is not one of libcrypto's.

        `socket_fd`: connected to the neighbour.
        """
        struct, batch, (key, limit) = self.struct, self.struct.batch, self._sealer.key_ahead()
        native = self.flows.ffi.NULL if key is None else self.flows.engine.native_key(key)
        if native is None:
            return False
        self._key = key  # the C side lives as long as it
        struct.key, struct.limit = native, min(limit, _LOW)
        batch.socket, batch.max_payload, batch.max_run = (
            socket_fd,
            min(max_payload, MAX_PAYLOAD_BYTES),
            MAX_SEND_SEGMENTS,
        )
        clear = wire.clear_header(self._us, wire.Kind.RECORDS, 0, encrypted=key is not None)
        self.flows.ffi.memmove(struct.clear, clear, len(clear))
        return True

    def load(self) -> None:
        """See NativeSender."""
        self.struct.next = self._sealer.next_sequence

    def store(self) -> None:
        """See NativeSender."""
        self._sealer.next_sequence = self.struct.next

    def take(self) -> Sent | None:
        """See NativeSender."""
        return self._take(self.struct.batch.frames)


class Plait1Receiver(NativeReceiver):
    """See NativeReceiver."""

    place = "plait1"

    def __init__(self, flows: NativeFlows, opener: Opener, name: bytes) -> None:
        super().__init__(flows, flows.ffi.new("struct plait_receiver *"), name)
        self._opener = opener
        self._key: object = None
        self.struct.flags = opener.flags

    def load(self) -> bool:
        """See NativeReceiver."""
        struct, schedule = self.struct, self._opener.schedule
        if schedule is None:
            return True
        newest = schedule.newest()
        if newest is None:
            return False
        key, struct.key_first, struct.key_last = newest
        native = self.flows.engine.native_key(key)
        if native is None:
            return False
        self._key = key
        struct.key = native
        sequence = max(self._opener.window.highest, 0)
        seen = self._opener.window.seen(sequence)
        struct.newest, struct.newest_mask[0], struct.newest_mask[1] = sequence, seen & _LOW, seen >> 64 & _LOW
        return True

    def _store(self) -> int:
        struct, window = self.struct, self._opener.window
        for number in range(struct.inbound.accepts):
            each = struct.accepted[number]
            window.add(each.sequence, each.mask[1] << 64 | each.mask[0])
        self._opener.data_datagrams += struct.inbound.data_datagrams
        return int(struct.inbound.frames)
