"""What the kernel's tables must say, from routes, short ids and connections; pure. datapath.py writes it.

The datapath outlives the connections that filled it: a node that is restarted, here or at the other end, must lose no
packet. So a way by VXLAN that nothing replaces stays for HOLD seconds, and so does one whose new connection has not
yet found out whether VXLAN works.

When a node is killed, its neighbours learn of it one after another, and each first believes that it is reached by way
of those that do not know yet. So the own way to a neighbour stays before any other for GRACE seconds, and what is held
afterwards is as it was before that: ways and trees of nodes that knew different things can have a loop, in which
each frame goes round until its hops (64, fastdp.bpf.c) are used up.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeVar

from plait.mesh.name import PeerName
from plait.overlay.fastdp.carrier import Carrier
from plait.overlay.fastdp.own_ways import GRACE, HOLD, OwnWays
from plait.overlay.fastdp.settled import Settled
from plait.overlay.fastdp.tables import MAX_FANOUT, NO_ID, NO_WAY, Fan, Neighbour, NextHop, Via

_Key = TypeVar("_Key", int, str)
_Value = TypeVar("_Value")


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


class Planner:
    """Keeps what the kernel has, says what it is to have. Times are seconds of any one clock."""

    def __init__(self) -> None:
        self.tables = Tables()
        self._ways: Settled[int, NextHop] = Settled(GRACE)
        self._trees: Settled[int, Fan] = Settled(GRACE)
        self._own = OwnWays(self._sources)
        self._preferred: dict[int, float] = {}
        self._relaying: dict[int, float] = {}
        self._held: dict[int, float] = {}
        self._held_addresses: dict[str, float] = {}

    def adopt(self, tables: Tables, now: float) -> None:
        """Begin with what an earlier node left in the kernel: all of it is held."""
        self.tables = tables
        self._ways.adopt(tables.nexthops)
        self._trees.adopt(tables.trees)
        self._held = dict.fromkeys(tables.nexthops, now + HOLD)
        self._held_addresses = dict.fromkeys(tables.neighbours, now + HOLD)
        ways = tables.nexthops
        direct = {short_id: ways[short_id] for short_id in ways if _is_direct_vxlan(ways, short_id)}
        self._own.adopt(direct, now)

    def update(self, topology: Topology, carriers: Mapping[PeerName, Carrier], now: float) -> Tables:
        """Plan anew; `carriers` has one for each neighbour."""
        ids, before = topology.ids, self.tables
        self._own.follow(ids, carriers, now)
        hops = {peer: self._hop(ids[peer]) for peer in carriers if peer in ids}
        for peer in sorted(peer for peer, hop in hops.items() if hop.via is Via.VXLAN)[MAX_FANOUT:]:
            hops[peer] = NextHop(Via.PUMP, ids[peer])  # a tree in the kernel has no room for it: the pump serves it
        wanted = {ids[peer]: hops[via] for peer, via in topology.unicast.items() if peer in ids and via in hops}
        new = {peer for peer, hop in hops.items() if hop.via is Via.PUMP and carriers[peer].is_pending}
        wanted |= self._relayed({ids[to] for to, via in topology.unicast.items() if to in ids and via in new}, now)
        nexthops = _holding(wanted, self._last(now), self._held, now)
        preferred = self._own.preferred(wanted, now)
        nexthops |= {short_id: hop for short_id, (hop, _) in preferred.items()}
        self._preferred = {short_id: until for short_id, (_, until) in preferred.items()}
        allowed = {
            carrier.remote: Neighbour(carrier.local, ids[peer])
            for peer, carrier in carriers.items()
            if carrier.remote and peer in ids
        }
        neighbours = _holding(allowed, before.neighbours, self._held_addresses, now)
        # Only hops that nothing else reaches are held in a tree: else old and new trees together could have a loop.
        held = {short_id for short_id in self._held if short_id not in wanted}
        trees = {}
        for source, to in topology.broadcast.items():
            if source in ids:
                trees[ids[source]] = self._fan([ids.get(hop) for hop in to], ids[source], nexthops, held)
        for source_id in held - trees.keys():
            trees[source_id] = self._trees.get(source_id, now) or Fan()
        self._ways.follow(nexthops, now)
        self._trees.follow(trees, now)
        us = ids.get(topology.us, NO_ID)
        self.tables = Tables(us, nexthops, {key: fan for key, fan in trees.items() if fan != Fan()}, neighbours)
        return self.tables

    def next_deadline(self) -> float | None:
        """When something held must be planned anew; None if nothing is."""
        until = self._preferred, self._relaying, self._held, self._held_addresses
        return min((*chain.from_iterable(each.values() for each in until), *self._own.ends()), default=None)

    def held(self, now: float) -> dict[int, float]:
        """Give the ways that nothing replaces, by short id, and for how many seconds more they stay."""
        return {short_id: until - now for short_id, until in self._held.items() if short_id in self.tables.nexthops}

    def carried(self, ids: Mapping[PeerName, int]) -> dict[PeerName, int]:
        """Give the neighbours whose frames the kernel carries, and the largest IP packet of a container for each.

        The pump leaves their copies of broadcasts to the kernel.
        """
        hops = self.tables.nexthops
        return {peer: hops[short_id].mtu for peer, short_id in ids.items() if _is_direct_vxlan(hops, short_id)}

    def _hop(self, short_id: int) -> NextHop:
        way = self._own.get(short_id)
        return NextHop(Via.PUMP, short_id) if way is None else way.hop

    def _relayed(self, short_ids: set[int], now: float) -> dict[int, NextHop]:
        """Give the ways by VXLAN through others of peers with a better way now, by a neighbour not known to have VXLAN.

        So their frames do not go by the pump in between; for GRACE seconds, in which a neighbour is found to have it.
        """
        ways = {short_id: self.tables.nexthops.get(short_id, NO_WAY) for short_id in short_ids}
        until = {
            short_id: self._relaying.get(short_id, now + GRACE)
            for short_id, way in ways.items()
            if way.via is Via.VXLAN and self._own.get(way.hop) is not None
        }
        self._relaying = {short_id: when for short_id, when in until.items() if when > now}
        return {short_id: ways[short_id] for short_id in self._relaying}

    def _last(self, now: float) -> dict[int, NextHop]:
        """Give the ways by VXLAN that may be held: settled ones, and own ones however new."""
        last = {}
        for short_id in _by_vxlan(self.tables.nexthops):
            way, own = self._ways.get(short_id, now), self._own.get(short_id)
            if own is not None:
                last[short_id] = own.hop
            elif way is not None and way.via is Via.VXLAN and way.hop != short_id:
                last[short_id] = way
        return last

    def _sources(self, short_id: int, now: float) -> frozenset[int]:
        """Whose broadcasts go to a neighbour by VXLAN, and have done so for a while."""
        return frozenset(source for source, fan in self._trees.items(now) if short_id in fan.hops)

    def _fan(self, to: Iterable[int | None], source: int, nexthops: Mapping[int, NextHop], held: set[int]) -> Fan:
        hops = list(to)
        kept = [hop for hop in held if (own := self._own.get(hop)) is not None and source in own.sources]
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
    now: float,
) -> dict[_Key, _Value]:
    """Add what was there before to what is wanted, for HOLD seconds; `held` says until when."""
    kept = dict(wanted)
    for key, value in before.items():
        if key in wanted:
            held.pop(key, None)
        elif held.setdefault(key, now + HOLD) > now:
            kept.setdefault(key, value)
        else:
            del held[key]
    for key in held.keys() - before.keys():
        del held[key]
    return kept
