"""What the kernel's tables must say, from routes, short ids and connections; pure. datapath.py writes it.

The datapath outlives the connections that filled it: a node that is restarted, here or at the other end, must lose no
packet. So a way by VXLAN that nothing replaces stays for HOLD seconds, and so does one whose new connection has not
yet found out whether VXLAN works.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import TypeVar

from plait.mesh.name import PeerName
from plait.overlay.fastdp.session import FastdpSession
from plait.overlay.fastdp.tables import MAX_FANOUT, NO_ID, NO_WAY, Fan, HopFlag, Neighbour, NextHop, Via

HOLD = 30.0
"""Seconds that a way by VXLAN outlives its connection: a node comes back within some 2 s, under load later."""

_Key = TypeVar("_Key", int, str)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Carrier:
    """How frames go to one neighbour: by VXLAN between these addresses, or by the pump.

    `is_pending`: VXLAN is neither established on this connection nor given up yet.
    """

    is_vxlan: bool
    remote: str = ""
    local: str = ""
    underlay: int = 0
    mtu: int = 0
    flags: HopFlag = HopFlag.NONE
    is_pending: bool = False


@dataclass(frozen=True, slots=True)
class Underlay:
    """The way to a neighbour: interface number and MTU, and whether outer headers may be written for it directly."""

    index: int
    device: str
    mtu: int
    is_direct: bool


@dataclass(frozen=True, slots=True)
class Tables:
    """The content of the maps that the node owns, by short id and by address."""

    our_id: int = NO_ID
    nexthops: Mapping[int, NextHop] = field(default_factory=dict)
    trees: Mapping[int, Fan] = field(default_factory=dict)
    neighbours: Mapping[str, Neighbour] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Topology:
    """What the mesh says: the short id that each peer owns (ours too), next hops (of others), broadcast trees (all)."""

    us: PeerName
    ids: Mapping[PeerName, int] = field(default_factory=dict)
    unicast: Mapping[PeerName, PeerName] = field(default_factory=dict)
    broadcast: Mapping[PeerName, Iterable[PeerName]] = field(default_factory=dict)


def carrier_of(session: FastdpSession | None, underlay: Underlay | None, local_ip: str, *, is_best: bool) -> Carrier:
    """Say how frames go to the neighbour of a session; `underlay` None: not looked at yet. `is_best`: of its switch."""
    if session is None or session.failure is not None:
        return Carrier(is_vxlan=False)
    if underlay is None or not (is_best and session.is_established):
        is_pending = session.illness is None and (underlay is None or session.established_since is None)
        return Carrier(is_vxlan=False, remote=session.remote_ip, local=local_ip, is_pending=is_pending)
    flags = HopFlag.DIRECT if underlay.is_direct else HopFlag.NONE
    if session.path_mtu >= underlay.mtu:
        flags |= HopFlag.KERNEL_ANSWERS
    return Carrier(True, session.remote_ip, local_ip, underlay.index, session.mtu, flags)


class Planner:
    """Keeps what the kernel has, says what it is to have. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self.tables = Tables()
        self._held: dict[int, float] = {}
        self._held_addresses: dict[str, float] = {}

    def adopt(self, tables: Tables, now: float) -> None:
        """Begin with what an earlier node left in the kernel: all of it is held."""
        self.tables = tables
        self._held = dict.fromkeys(tables.nexthops, now + HOLD)
        self._held_addresses = dict.fromkeys(tables.neighbours, now + HOLD)

    def update(self, topology: Topology, carriers: Mapping[PeerName, Carrier], now: float) -> Tables:
        """Plan anew; `carriers` has one for each neighbour."""
        ids, before = topology.ids, self.tables
        hops = {peer: self._hop(ids[peer], carrier, now) for peer, carrier in carriers.items() if peer in ids}
        for peer in sorted(peer for peer, hop in hops.items() if hop.via is Via.VXLAN)[MAX_FANOUT:]:
            hops[peer] = NextHop(Via.PUMP, ids[peer])  # a tree in the kernel has no room for it: the pump serves it
        wanted = {ids[peer]: hops[via] for peer, via in topology.unicast.items() if peer in ids and via in hops}
        pending = {ids[peer] for peer, carrier in carriers.items() if carrier.is_pending and peer in ids}
        nexthops = _holding(wanted, _by_vxlan(before.nexthops), self._held, pending, now)
        allowed = {
            carrier.remote: Neighbour(carrier.local, ids[peer])
            for peer, carrier in carriers.items()
            if carrier.remote and peer in ids
        }
        neighbours = _holding(allowed, before.neighbours, self._held_addresses, set(), now)
        # Only hops that nothing else reaches are held in a tree: else old and new trees together could have a loop.
        held = {short_id for short_id in self._held if short_id not in wanted}
        trees = {}
        for source, to in topology.broadcast.items():
            if source in ids:
                trees[ids[source]] = self._fan([ids.get(hop) for hop in to], ids[source], nexthops, held)
        for source_id in held - trees.keys():
            trees[source_id] = before.trees.get(source_id, Fan())
        us = ids.get(topology.us, NO_ID)
        self.tables = Tables(us, nexthops, {key: fan for key, fan in trees.items() if fan != Fan()}, neighbours)
        return self.tables

    def next_deadline(self) -> float | None:
        """When something held must be planned anew; None if nothing is."""
        deadline = min((*self._held.values(), *self._held_addresses.values()), default=inf)
        return None if deadline == inf else deadline

    def carried(self, ids: Mapping[PeerName, int]) -> dict[PeerName, int]:
        """Give the neighbours whose frames the kernel carries, and the largest IP packet of a container for each.

        The pump leaves their copies of broadcasts to the kernel.
        """
        hops = self.tables.nexthops
        return {peer: hops[short_id].mtu for peer, short_id in ids.items() if _is_direct_vxlan(hops, short_id)}

    def _hop(self, short_id: int, carrier: Carrier, now: float) -> NextHop:
        before = self.tables.nexthops.get(short_id, NO_WAY)
        is_same = _is_direct_vxlan(self.tables.nexthops, short_id) and before.remote == carrier.remote
        if carrier.is_pending and is_same and self._held.get(short_id, inf) > now:
            return before
        if not carrier.is_vxlan:
            return NextHop(Via.PUMP, short_id)
        ends = carrier.remote, carrier.local
        return NextHop(Via.VXLAN, short_id, *ends, carrier.underlay, carrier.mtu, carrier.flags)

    def _fan(self, to: Iterable[int | None], source: int, nexthops: Mapping[int, NextHop], held: set[int]) -> Fan:
        hops = list(to)
        kept = [hop for hop in self.tables.trees.get(source, Fan()).hops if hop in held]
        by_vxlan = [hop for hop in hops if hop is not None and _is_direct_vxlan(nexthops, hop)]
        return Fan(tuple(sorted({*by_vxlan, *kept})), has_pump=len(by_vxlan) < len(hops))


def _is_direct_vxlan(nexthops: Mapping[int, NextHop], short_id: int) -> bool:
    """A neighbour whose own frames go to it by VXLAN."""
    hop = nexthops.get(short_id, NO_WAY)
    return hop.via is Via.VXLAN and hop.hop == short_id


def _by_vxlan(nexthops: Mapping[int, NextHop]) -> dict[int, NextHop]:
    return {short_id: hop for short_id, hop in nexthops.items() if hop.via is Via.VXLAN}


def _holding(
    wanted: Mapping[_Key, _Value],
    before: Mapping[_Key, _Value],
    held: dict[_Key, float],
    pending: set[_Key],
    now: float,
) -> dict[_Key, _Value]:
    """Add what was there before to what is wanted, for HOLD seconds; `held` says until when."""
    kept = dict(wanted)
    for key, value in before.items():
        if key in wanted and key not in pending:
            held.pop(key, None)
        elif held.setdefault(key, now + HOLD) > now:
            kept.setdefault(key, value)
        else:
            del held[key]
    for key in held.keys() - before.keys():
        del held[key]
    return kept
