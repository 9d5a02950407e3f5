"""Which MAC address is behind which peer: learned from traffic, or announced by the peer that has the container.

What was announced holds before what was learned, so that no frame takes it away. Addresses captured here and addresses
of other peers are kept apart, each with its own limit, so that no flood from afar evicts a container of this host.
Among what was learned a local capture always wins: a container that moves here with its MAC address works at once
(Weave refuses it until the remote entry ages out). It does not look at frames.
"""

from collections import OrderedDict, deque
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

from plait.overlay.ethernet import is_unicast_mac

MAX_AGE = 600.0
"""Seconds without traffic until an address is forgotten (Weave: macMaxAge)."""

MAX_LOCAL = 1 << 14
"""Addresses of this host: a Linux bridge has at most 1024 ports, so this is 16 addresses behind each."""

MAX_REMOTE = 1 << 16
"""Addresses of the other hosts: 1024 hosts with 64 containers each, 16 MB of memory."""

RECENT_MOVES = 64
"""How many moves are remembered for reports; one flapping address fills this and no more."""

FLAPS = 4
"""So many moves within `FLAP_WINDOW` seconds are two hosts claiming one address, not a container that moved."""

FLAP_WINDOW = 60.0


class Learned(NamedTuple):
    """One address; `peer` is None for an address of this host.

    `last_seen` may lie a tenth of the maximum age back, and as long as flows are kept (pump/flows.py) besides.
    """

    mac: bytes
    peer: bytes | None
    last_seen: float


class Move(NamedTuple):
    """An address that changed its owner; None is this host."""

    mac: bytes
    old: bytes | None
    new: bytes | None
    at: float


class MacTable:
    """MAC address -> peer. Times are seconds of any one clock; call `sweep` once a minute."""

    def __init__(self, *, max_age: float = MAX_AGE, max_local: int = MAX_LOCAL, max_remote: int = MAX_REMOTE) -> None:
        self.moves = 0
        self.evicted = 0
        self.version = 0
        """Goes up when an address gets an owner, another owner, or is forgotten."""
        self.recent_moves: deque[Move] = deque(maxlen=RECENT_MOVES)
        self._max_age = max_age
        self._refresh = max_age / 10
        self._max_local = max_local
        self._max_remote = max_remote
        # Both are ordered by their last refresh: the oldest entry is first. A value says until when traffic
        # needs no refresh, which is `last_seen` plus a tenth of the maximum age.
        self._announced: dict[bytes, bytes] = {}
        self._local: OrderedDict[bytes, float] = OrderedDict()
        self._remote: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()

    def set_announced(self, owners: Mapping[bytes, bytes]) -> None:
        """Take what the other peers say they have, address -> peer, in the place of what they said before."""
        if owners == self._announced:
            return
        self.version += 1
        self._announced = dict(owners)
        for mac in owners.keys() & self._local.keys():
            del self._local[mac]

    @property
    def announced(self) -> int:
        """How many addresses other peers say they have."""
        return len(self._announced)

    def learn_local(self, mac: bytes, now: float) -> None:
        """Note that this host sent a frame from `mac`; takes the address away from a remote peer."""
        fresh_until = self._local.get(mac)
        if fresh_until is None or now >= fresh_until:
            self._put_local(mac, now)

    def learn_remote(self, mac: bytes, peer: bytes, now: float) -> None:
        """Note that a frame from `mac` came from `peer`; takes the address away from any other owner."""
        entry = self._remote.get(mac)
        if entry is None or now >= entry[1] or entry[0] != peer:
            self._put_remote(mac, peer, now)

    def remote_owner(self, mac: bytes) -> bytes | None:
        """Give the other peer behind an address, or None if it is unknown or local."""
        announced = self._announced.get(mac)
        if announced is not None:
            return announced
        entry = self._remote.get(mac)
        return None if entry is None else entry[0]

    def is_local(self, mac: bytes) -> bool:
        """Say whether an address was captured on this host."""
        return mac in self._local

    def sweep(self, now: float) -> None:
        """Forget what was not seen for the maximum age."""
        cut = now - self._max_age + self._refresh
        before = len(self)
        while self._local and next(iter(self._local.values())) <= cut:
            self._local.popitem(last=False)
        while self._remote and next(iter(self._remote.values()))[1] <= cut:
            self._remote.popitem(last=False)
        self.version += len(self) != before

    def forget_peer(self, peer: bytes) -> None:
        """Forget all addresses of a peer that left the topology."""
        self.version += 1
        for mac in [mac for mac, (owner, _) in self._remote.items() if owner == peer]:
            del self._remote[mac]

    def retain_peers(self, known: Collection[bytes]) -> None:
        """Forget all addresses of peers that are not in `known`."""
        self.version += 1
        for mac in [mac for mac, (owner, _) in self._remote.items() if owner not in known]:
            del self._remote[mac]

    def flapping(self, now: float) -> list[bytes]:
        """Give the addresses that two owners claim at the same time, as far as `recent_moves` reaches back."""
        counts: dict[bytes, int] = {}
        for move in self.recent_moves:
            if move.at > now - FLAP_WINDOW:
                counts[move.mac] = counts.get(move.mac, 0) + 1
        return [mac for mac, count in counts.items() if count >= FLAPS]

    def __iter__(self) -> Iterator[Learned]:
        """Give all entries, local ones first."""
        for mac, fresh_until in self._local.items():
            yield Learned(mac, None, fresh_until - self._refresh)
        for mac, (peer, fresh_until) in self._remote.items():
            yield Learned(mac, peer, fresh_until - self._refresh)

    def __len__(self) -> int:
        return len(self._local) + len(self._remote)

    def _put_local(self, mac: bytes, now: float) -> None:
        if not is_unicast_mac(mac):
            return
        if mac not in self._local:
            if mac in self._announced:
                return
            self.version += 1
            entry = self._remote.pop(mac, None)
            if entry is not None:
                self._note_move(mac, entry[0], None, now)
            if len(self._local) >= self._max_local:
                self._local.popitem(last=False)
                self.evicted += 1
        self._local[mac] = now + self._refresh
        self._local.move_to_end(mac)

    def _put_remote(self, mac: bytes, peer: bytes, now: float) -> None:
        if not is_unicast_mac(mac) or self._announced.get(mac, peer) != peer:
            return
        entry = self._remote.get(mac)
        if entry is None or entry[0] != peer:
            self.version += 1
        if entry is not None:
            if entry[0] != peer:
                self._note_move(mac, entry[0], peer, now)
        else:
            if self._local.pop(mac, None) is not None:
                self._note_move(mac, None, peer, now)
            if len(self._remote) >= self._max_remote:
                self._remote.popitem(last=False)
                self.evicted += 1
        self._remote[mac] = (peer, now + self._refresh)
        self._remote.move_to_end(mac)

    def _note_move(self, mac: bytes, old: bytes | None, new: bytes | None, now: float) -> None:
        self.moves += 1
        self.recent_moves.append(Move(mac, old, new, now))
