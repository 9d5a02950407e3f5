"""Where a frame goes: into the local bridge, to neighbours, or nowhere (spec: sleeve, section 10).

A decision names next hops; how a frame fits the link to a next hop is the sender's business. Peers are their six
bytes here, as they stand in datagrams. Decisions for known destinations are built when routes change, so a frame
costs look-ups only.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from plait.mesh.name import NAME_BYTES
from plait.overlay.ethernet import HEADER_BYTES, SPECIAL_PREFIX, STP_MAC
from plait.overlay.macs import MacTable

Copy = tuple[bytes, bytes, bytes]
"""Next hop, source peer, destination peer: what one copy of a frame is sent to and labelled with."""


class Decision(NamedTuple):
    """What becomes of one frame."""

    inject: bool
    """Write it into the local bridge."""
    is_broadcast: bool
    """The copies are for all: too big ones are dropped, never answered."""
    is_special: bool
    """It is a message of the neighbour itself and belongs to the session."""
    copies: tuple[Copy, ...]
    """To whom it is sent."""


DROP = Decision(False, False, False, ())
INJECT = Decision(True, False, False, ())
SPECIAL = Decision(False, False, True, ())

DROP_REASONS = {
    "short": "frames shorter than an Ethernet header",
    "spanning_tree": "spanning tree frames, which stay on their bridge",
    "local": "frames between containers of this host, which the bridge delivers itself",
    "forged_special": "frames of containers that imitate messages of the overlay",
    "foreign_special": "overlay messages that are not the neighbour's own or not for us",
    "unknown_peer": "frames of or for peers that the topology does not know (yet)",
    "echo": "frames of ours that came back: peers disagree about the topology",
    "returned": "frames whose next hop sent them here: peers disagree about the topology",
    "no_route": "frames for peers without a route",
}
"""Why the forwarder drops frames: the keys of `Forwarder.dropped`, in words for people."""


class Forwarder:
    """The hub of one host: knows its own name, the routes and, through `macs`, who owns an address."""

    def __init__(self, name: int, macs: MacTable) -> None:
        self.macs = macs
        self.dropped = dict.fromkeys(DROP_REASONS, 0)
        self._name = _name_bytes(name)
        self._known: frozenset[bytes] = frozenset()
        self._next_hop: dict[bytes, bytes] = {}
        self._to: dict[bytes, Decision] = {}
        self._flood_own = DROP
        self._flood_of: dict[bytes, Decision] = {}
        self._own_copies: tuple[Copy, ...] = ()
        self._carried: frozenset[bytes] = frozenset()
        self._changes = 0

    @property
    def version(self) -> int:
        """Goes up when a frame that comes again may meet another decision."""
        return self._changes + self.macs.version

    def set_routes(
        self, known: Iterable[int], unicast: Mapping[int, int], broadcast: Mapping[int, Sequence[int]]
    ) -> None:
        """Take new tables (the content of `ipc.SetRoutes`): they replace the old ones as a whole."""
        name = self._name
        self._known = frozenset(map(_name_bytes, known)) | {name}
        self._next_hop = {_name_bytes(dst): _name_bytes(hop) for dst, hop in unicast.items()}
        self._to = {dst: Decision(False, False, False, ((hop, name, dst),)) for dst, hop in self._next_hop.items()}
        trees = {_name_bytes(src): list(map(_name_bytes, hops)) for src, hops in broadcast.items()}
        self._own_copies = _copies(name, trees.pop(name, []))
        self._flood_of = {src: Decision(True, True, False, _copies(src, hops)) for src, hops in trees.items() if hops}
        self.macs.retain_peers(self._known)
        self.set_carried(self._carried)

    def set_carried(self, neighbours: Iterable[bytes]) -> None:
        """Leave copies of what this host or the kernel floods to the kernel, for these neighbours."""
        self._changes += 1
        self._carried = frozenset(neighbours)
        self._flood_own = Decision(False, True, False, self._not_carried(self._own_copies))

    def captured(self, frame: bytes, now: float) -> Decision:
        """Decide about a frame that a container of this host sent."""
        if len(frame) < HEADER_BYTES:
            return self._drop("short")
        macs = self.macs
        macs.learn_local(frame[6:12], now)
        destination = frame[:6]
        peer = macs.remote_owner(destination)
        if peer is not None:
            return self._to.get(peer) or self._drop("no_route")
        if macs.is_local(destination):
            return self._drop("local")
        if destination == STP_MAC:
            return self._drop("spanning_tree")
        if frame[:HEADER_BYTES] == SPECIAL_PREFIX:
            return self._drop("forged_special")
        return self._flood_own

    def received(self, hop: bytes, src: bytes, dst: bytes, frame: bytes, now: float) -> Decision:
        """Decide about a frame from the neighbour `hop`, labelled with the peers `src` and `dst`."""
        name = self._name
        if len(frame) < HEADER_BYTES:
            return self._drop("short")
        if frame[:HEADER_BYTES] == SPECIAL_PREFIX:
            return SPECIAL if src == hop and dst == name else self._drop("foreign_special")
        if src not in self._known or dst not in self._known:
            return self._drop("unknown_peer")
        # Injecting our own frame would make the bridge look for the container on our side of it.
        if src == name:
            return self._drop("echo")
        if dst != name:
            return self._relay(hop, src, dst)
        macs = self.macs
        macs.learn_remote(frame[6:12], src, now)
        if src not in self._flood_of or macs.is_local(frame[:6]):
            return INJECT
        return _without(hop, self._flood_of[src])

    def labelled(self, src: bytes, dst: bytes, frame: bytes, now: float) -> Decision:
        """Decide about a frame that the kernel's datapath hands over, with the peers that it is from and for.

        For ourselves: a broadcast of `src`, which neighbours that the kernel does not serve must get too.
        """
        if len(frame) < HEADER_BYTES:
            return self._drop("short")
        if src not in self._known or dst not in self._known:
            return self._drop("unknown_peer")
        if src == self._name:
            self.macs.learn_local(frame[6:12], now)
            return self._to.get(dst) or self._drop("no_route")
        self.macs.learn_remote(frame[6:12], src, now)
        if dst != self._name:
            next_hop = self._next_hop.get(dst)
            if next_hop is None:
                return self._drop("no_route")
            return Decision(False, False, False, ((next_hop, src, dst),))
        flood = self._flood_of.get(src)
        return DROP if flood is None else Decision(False, True, False, self._not_carried(flood.copies))

    def known_way(self, macs: bytes, destination: bytes | None) -> Copy | None:
        """Give the only copy of frames of this host between these addresses, as decided before, if it has one.

        `destination`: the peer that the kernel's datapath says they are for, if it does.
        """
        if not self.macs.is_local(macs[6:12]):
            return None
        peer = self.macs.remote_owner(macs[:6]) if destination is None else destination
        decision = None if peer is None else self._to.get(peer)
        return None if decision is None else decision.copies[0]

    def is_known_injection(self, neighbour: bytes, macs: bytes) -> bool:
        """Say whether frames of a neighbour for us between these addresses go into the bridge only, as before."""
        if self.macs.remote_owner(macs[6:12]) != neighbour:
            return False
        return neighbour not in self._flood_of or self.macs.is_local(macs[:6])

    def answer(self, src: bytes, dst: bytes) -> Decision:
        """Decide about our answer to a frame labelled `src` and `dst` (ICMP): it travels as if `dst` had sent it."""
        if src == self._name:
            return INJECT
        hop = self._next_hop.get(src)
        return self._drop("no_route") if hop is None else Decision(False, False, False, ((hop, dst, src),))

    def _not_carried(self, copies: tuple[Copy, ...]) -> tuple[Copy, ...]:
        return tuple(copy for copy in copies if copy[0] not in self._carried)

    def _relay(self, hop: bytes, src: bytes, dst: bytes) -> Decision:
        next_hop = self._next_hop.get(dst)
        if next_hop is None:
            return self._drop("no_route")
        # Frames carry no hop count: between two peers that name each other as next hop they would never end.
        if next_hop == hop:
            return self._drop("returned")
        return Decision(False, False, False, ((next_hop, src, dst),))

    def _drop(self, reason: str) -> Decision:
        self.dropped[reason] += 1
        return DROP


def _name_bytes(name: int) -> bytes:
    return int.to_bytes(name, NAME_BYTES, "big")


def _copies(src: bytes, hops: Iterable[bytes]) -> tuple[Copy, ...]:
    return tuple((hop, src, hop) for hop in hops)


def _without(hop: bytes, decision: Decision) -> Decision:
    copies = decision.copies
    if all(copy[0] != hop for copy in copies):
        return decision
    return decision._replace(copies=tuple(copy for copy in copies if copy[0] != hop))
