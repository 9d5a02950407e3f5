"""Flows in Weave's format: the C structures of weave_flows.h, with keys and sequences of a link's ends.

Their datagrams are sealed by the libsodium that PyNaCl brings: C calls its functions where PyNaCl has them.
"""

from functools import cache
from importlib import import_module
from typing import Any, NamedTuple

from plait.overlay.sleeve.crypto import DIRECTIONS, Opener, Sealer
from plait.overlay.sleeve.moved import Route, Sent
from plait.overlay.sleeve.native.flows import NativeFlows, NativeReceiver, NativeSender
from plait.overlay.sleeve.sender import Path


class Box(NamedTuple):
    """Addresses of libsodium's crypto_secretbox_easy and crypto_secretbox_open_easy."""

    seal: int
    open: int


@cache
def box() -> Box | None:
    """Find the functions; None where PyNaCl has them not (before 1.6), or not where they can be called."""
    try:
        sodium = import_module("nacl._sodium")
        ffi, names = sodium.ffi, ("crypto_secretbox_easy", "crypto_secretbox_open_easy")
        return Box(*(int(ffi.cast("uintptr_t", ffi.addressof(sodium.lib, name))) for name in names))
    except (ImportError, AttributeError):
        return None


class WeaveSender(NativeSender):
    """See NativeSender."""

    place = "weave"

    def __init__(self, flows: NativeFlows, sealer: Sealer | None, us: bytes, peer: bytes) -> None:
        """`sealer`: None on an unencrypted connection."""
        super().__init__(flows, flows.ffi.new("struct plait_weave_sender *"))
        self._sealer = sealer
        self.allowance = 0
        """Datagrams that may leave with the next calls; counts down."""
        flows.ffi.memmove(self.struct.us, us, len(us))
        flows.ffi.memmove(self.struct.peer, peer, len(peer))

    def arm(self, route: Route, path: Path) -> bool:
        """Make it ready for the path; False if datagrams cannot be sealed in C."""
        struct, batch, memmove = self.struct, self.struct.batch, self.flows.ffi.memmove
        if self._sealer is not None:
            functions = box()
            if functions is None:
                return False
            struct.seal = self.flows.ffi.cast("plait_box *", functions.seal)
            _set_key(self.flows, struct, self._sealer.key, self._sealer.is_outbound)
        struct.sockets[0], struct.sockets[1] = route.plain_fd, route.df_fd
        struct.mtu, struct.has_stack_frag = path.mtu, path.stack_frag
        batch.max_payload, batch.max_run = path.max_payload, route.max_run
        batch.address_bytes = len(route.remote)
        memmove(batch.address, route.remote, len(route.remote))
        batch.pktinfo_level, batch.pktinfo_type, source = route.source
        batch.pktinfo_bytes = len(source)
        memmove(batch.pktinfo, source, len(source))
        return True

    def load(self) -> None:
        """See NativeSender."""
        self.struct.allowance = self.allowance
        if self._sealer is not None:
            sequences, next_sequence = self.struct.next, self._sealer.next_sequence
            sequences[0], sequences[1] = next_sequence[False], next_sequence[True]

    def store(self) -> None:
        """See NativeSender."""
        self.allowance = self.struct.allowance
        if self._sealer is not None:
            sequences, next_sequence = self.struct.next, self._sealer.next_sequence
            next_sequence[False], next_sequence[True] = sequences[0], sequences[1]

    def take(self) -> Sent | None:
        """See NativeSender."""
        frames, self.struct.records = self.struct.records, 0
        return self._take(frames)

    @property
    def sends_df(self) -> bool:
        """What was sent last had the DF flag."""
        return bool(self.struct.df)


class WeaveReceiver(NativeReceiver):
    """See NativeReceiver."""

    place = "weave"

    def __init__(self, flows: NativeFlows, opener: Opener | None, us: bytes, peer: bytes) -> None:
        """`opener`: None on an unencrypted connection."""
        super().__init__(flows, flows.ffi.new("struct plait_weave_receiver *"), peer)
        self._opener = opener
        flows.ffi.memmove(self.struct.us, us, len(us))
        functions = box()
        if opener is not None and functions is not None:
            self.struct.open = flows.ffi.cast("plait_box *", functions.open)
            _set_key(flows, self.struct, opener.key, not opener.is_outbound)

    def load(self) -> bool:
        """See NativeReceiver."""
        if self._opener is None:
            return True
        for number, window in enumerate(self._opener.windows):
            self.struct.next[number] = window.next
        return bool(self.struct.open)

    def _store(self) -> int:
        struct = self.struct
        if self._opener is not None:
            for number in range(struct.inbound.accepts):
                each = struct.accepted[number]
                self._opener.accept(each.first, each.count)
        frames, struct.records = struct.records, 0
        return int(frames)


def _set_key(flows: NativeFlows, struct: Any, key: bytes, is_outbound: bool) -> None:
    """Give the C side a key; `is_outbound`: the sender dialled the TCP connection."""
    flows.ffi.memmove(struct.key, key, len(key))
    head = DIRECTIONS[is_outbound]
    flows.ffi.memmove(struct.nonce, head, len(head))
