"""Whole networks: every node's kernel as its planner fills it, and every node's pump."""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plait.mesh.name import PeerName
from plait.mesh.records import ConnectionSummary, PeerRecord, PeerSummary
from plait.mesh.routes import Routes
from plait.overlay.fastdp.carrier import Carrier
from plait.overlay.fastdp.own_ways import GRACE
from plait.overlay.fastdp.plan import Planner, Topology
from plait.overlay.fastdp.tables import Fan, Via
from plait.overlay.forwarding import Forwarder
from plait.overlay.macs import MacTable
from unit.overlay.fastdp.carriers import by_pump, by_vxlan, ip


@dataclass
class Box:
    """One node: what its kernel was told, and its pump."""

    name: PeerName
    planner: Planner = field(default_factory=Planner)
    carriers: dict[PeerName, Carrier] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pump = Forwarder(self.name, MacTable())


Edges = Mapping[tuple[PeerName, PeerName], tuple[bool, bool]]
"""Both ends of each connection, and whether either of them sends by VXLAN."""


class Network:
    """Nodes, and what each knows of the connections. Broadcasts of any of them are followed as far as they go."""

    def __init__(self, size: int) -> None:
        self.boxes = {PeerName(number + 1): Box(PeerName(number + 1)) for number in range(size)}
        self.ids = {peer: 100 + int(peer) for peer in self.boxes}

    def connect(self, edges: Edges, now: float) -> None:
        """Replace all connections; everybody knows of it at once."""
        remotes: dict[PeerName, list[PeerName]] = {peer: [] for peer in self.boxes}
        for box in self.boxes.values():
            box.carriers = {}
        for (one, other), (there, back) in edges.items():
            for near, far, is_vxlan in ((one, other, there), (other, one, back)):
                remotes[near].append(far)
                self.boxes[near].carriers[far] = by_vxlan(far) if is_vxlan else by_pump(far)
        for peer, box in self.boxes.items():
            topology = self._topology(peer, remotes)
            unicast, broadcast = topology.unicast, topology.broadcast
            box.planner.update(topology, box.carriers, now)
            hops = {int(to): int(via) for to, via in unicast.items()}
            box.pump.set_routes(topology.ids, hops, {source: sorted(to) for source, to in broadcast.items()})
            box.pump.set_carried(map(_octets, box.planner.carried(topology.ids)))

    def learn(
        self,
        peer: PeerName,
        pairs: Iterable[tuple[PeerName, PeerName]],
        killed: PeerName,
        gone: set[PeerName],
        now: float,
    ) -> None:
        """Tell one node that the connections of these peers to another that was killed have ended."""
        links: dict[PeerName, list[PeerName]] = {each: [] for each in self.boxes}
        for one, other in pairs:
            links[one].append(other)
            links[other].append(one)
        for each in gone:
            links[each].remove(killed)
        self.boxes[peer].planner.update(self._topology(peer, links), {far: by_vxlan(far) for far in links[peer]}, now)

    def _topology(self, peer: PeerName, links: Mapping[PeerName, Iterable[PeerName]]) -> Topology:
        """What a node makes of the connections that it knows of."""
        records = [
            PeerRecord(
                PeerSummary(near, uid=1), tuple(ConnectionSummary(far, "192.0.2.9:6783", True, True) for far in to)
            )
            for near, to in links.items()
        ]
        routes = Routes.compute(peer, records)
        unicast = {to: via for to, via in routes.unicast_table().items() if via}
        known = [peer, *unicast]
        broadcast = {source: routes.broadcast(source) for source in known}
        return Topology(peer, {each: self.ids[each] for each in known}, unicast, broadcast)

    def send(self, start: PeerName, to: PeerName) -> None:
        """Send one frame. Fails if it does not arrive."""
        box, came_from = self.boxes[start], None
        for _ in self.boxes:
            hop = PeerName(box.planner.tables.nexthops[self.ids[to]].hop - 100)
            assert hop != came_from, f"{box.name} would send to {to} by {hop}, from where it came"
            came_from, box = box.name, self.boxes[hop]
            if hop == to:
                return
        pytest.fail(f"a loop on the way from {start} to {to}")

    def broadcast(self, source: PeerName) -> Counter[PeerName]:
        """Send one broadcast; gives how often it comes out at each node. Fails if it does not end."""
        frame = b"\xff" * 6 + bytes.fromhex("0200000000aa0800") + bytes(50)
        arrived: Counter[PeerName] = Counter()
        on_the_way = deque(self._out(self.boxes[source], source, None, frame))
        steps = 0
        while on_the_way:
            steps += 1
            assert steps < 1000, "a loop"
            is_vxlan, hop, to = on_the_way.popleft()
            box = self.boxes[to]
            if is_vxlan:
                if source == to or ip(hop) not in box.planner.tables.neighbours:
                    continue
                arrived[to] += 1
                on_the_way.extend(self._out(box, source, hop, frame))
            else:
                decision = box.pump.received(_octets(hop), _octets(source), _octets(to), frame, 0.0)
                arrived[to] += decision.inject
                on_the_way.extend((False, to, _name(copy[0])) for copy in decision.copies)
        return arrived

    def _out(
        self, box: Box, source: PeerName, hop: PeerName | None, frame: bytes
    ) -> Iterable[tuple[bool, PeerName, PeerName]]:
        """What a kernel sends of a frame that came from here or by VXLAN, and what it has the pump send."""
        tables = box.planner.tables
        fan = tables.trees.get(self.ids[source], Fan())
        for short_id in fan.hops:
            there = PeerName(short_id - 100)
            if tables.nexthops[short_id].via is Via.VXLAN and there != hop:
                yield True, box.name, there
        if hop is None:
            decision = box.pump.captured(frame, 0.0)
        elif fan.has_pump:
            decision = box.pump.labelled(_octets(source), _octets(box.name), frame, 0.0)
        else:
            return
        yield from ((False, box.name, _name(copy[0])) for copy in decision.copies)


def _octets(peer: PeerName) -> bytes:
    return peer.to_bytes(6, "big")


def _name(name: bytes) -> PeerName:
    return PeerName(int.from_bytes(name, "big"))


@st.composite
def edges(draw: st.DrawFn, size: int) -> Edges:
    """A connected graph."""
    kinds = st.tuples(st.booleans(), st.booleans())
    found = {(PeerName(draw(st.integers(1, n - 1))), PeerName(n)): draw(kinds) for n in range(2, size + 1)}
    ends = st.tuples(st.integers(1, size), st.integers(1, size)).filter(lambda pair: pair[0] < pair[1])
    more = draw(st.dictionaries(ends, kinds, max_size=size))
    return found | {(PeerName(one), PeerName(other)): kind for (one, other), kind in more.items()}


@given(st.data(), st.integers(2, 8))
def test_a_broadcast_comes_out_once_everywhere_by_vxlan_and_pump(data: st.DataObject, size: int) -> None:
    network = Network(size)
    network.connect(data.draw(edges(size)), 0.0)
    for source in network.boxes:
        others = {peer: 1 for peer in network.boxes if peer != source}
        assert network.broadcast(source) == others, source


@given(st.data(), st.integers(2, 8))
def test_the_same_after_connections_changed_however_soon(data: st.DataObject, size: int) -> None:
    network = Network(size)
    for now in range(3):
        network.connect(data.draw(edges(size)), float(now))
    for source in network.boxes:
        assert network.broadcast(source) == {peer: 1 for peer in network.boxes if peer != source}, source


@given(st.data(), st.integers(3, 8))
def test_a_peer_that_everybody_lost_gets_and_sends_broadcasts_while_it_is_held(data: st.DataObject, size: int) -> None:
    network = Network(size)
    before = dict.fromkeys(data.draw(edges(size - 1)), (True, True))
    before[PeerName(data.draw(st.integers(1, size - 1))), PeerName(size)] = (True, True)
    network.connect(before, 0.0)
    network.connect({pair: kind for pair, kind in before.items() if PeerName(size) not in pair}, GRACE)
    for source in network.boxes:
        assert network.broadcast(source) == {peer: 1 for peer in network.boxes if peer != source}, source


@given(st.data(), st.integers(3, 7))
def test_a_killed_peer_is_reached_by_its_neighbours_while_the_mesh_learns_of_it(data: st.DataObject, size: int) -> None:
    network = Network(size)
    killed = PeerName(size)
    others = [PeerName(number) for number in range(1, size)]
    neighbours = data.draw(st.lists(st.sampled_from(others), min_size=1, unique=True))
    pairs = set(data.draw(edges(size - 1))) | {(peer, killed) for peer in neighbours}
    network.connect(dict.fromkeys(pairs, (True, True)), 0.0)
    # Each neighbour finds its own connection ended first, then hears it of the others, in any order.
    own = [(peer, peer) for peer in data.draw(st.permutations(neighbours))]
    heard = data.draw(st.permutations([(peer, of) for peer in others for of in neighbours if peer != of]))
    news = data.draw(st.permutations(own + heard))
    gone: dict[PeerName, set[PeerName]] = {peer: set() for peer in others}
    for number, (peer, of) in enumerate(news):
        gone[peer].add(of)
        network.learn(peer, pairs, killed, gone[peer], 10.0 + number * 0.9 * GRACE / len(news))
        for start in neighbours:
            network.send(start, killed)
    for source in network.boxes:
        arrived = network.broadcast(source)  # at some twice: the killed one goes on relaying
        assert arrived.keys() == network.boxes.keys() - {source}, source
        if source != killed:
            network.send(source, killed)
