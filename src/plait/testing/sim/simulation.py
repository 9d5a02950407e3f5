"""Many nodes, one seed: what operators and misfortune do to them, and whether they agree afterwards."""

import random
from collections.abc import Iterable

from plait.mesh.name import PeerName
from plait.mesh.records import PeerRecord
from plait.testing.sim.clock import Clock
from plait.testing.sim.network import Network
from plait.testing.sim.node import SimNode


class Disagreement(AssertionError):
    """Nodes see different meshes; says the seed and who differs."""


class Simulation:
    """A virtual mesh. Everything random comes from `seed`, so the same calls give the same history."""

    def __init__(self, seed: int, latency: tuple[float, float] = (0.001, 0.02)) -> None:
        self.seed = seed
        self.rng = random.Random(seed)
        self.clock = Clock()
        self.network = Network(self.clock, self.rng, latency)
        self.nodes: dict[str, SimNode] = {}

    def add(self, count: int = 1) -> list[SimNode]:
        """Make hosts with addresses 10.0.X.Y; their nodes do not run yet."""
        made = []
        for _ in range(count):
            number = len(self.nodes) + 1
            address = f"10.0.{number // 250}.{number % 250 + 1}"
            name = PeerName(0x020000000000 + number)
            node = SimNode(address, name, self.clock, self.network, random.Random(self.rng.random()), self.nodes.get)
            self.nodes[address] = node
            made.append(node)
        return made

    def run_for(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.clock.run_until(self.clock.now + seconds)

    def view(self, node: SimNode) -> dict[PeerName, PeerRecord]:
        """Give what a node believes, in a form that two nodes can compare: connections sorted."""
        view = {}
        for record in node.router.peers.records():
            connections = sorted(record.connections, key=lambda connection: connection.remote)
            view[record.name] = PeerRecord(record.summary, tuple(connections))
        return view

    def check_agreement(self, nodes: Iterable[SimNode] | None = None) -> None:
        """Raise Disagreement unless these nodes (all running ones) have one view that holds exactly them."""
        group = list(nodes) if nodes is not None else [node for node in self.nodes.values() if node.is_running]
        expected = {node.name for node in group}
        first = self.view(group[0])
        for node in group:
            view = self.view(node)
            if set(view) != expected:
                odd = sorted(str(name) for name in set(view) ^ expected)
                raise Disagreement(f"seed {self.seed}, t={self.clock.now:.1f}: {node.address} differs in {odd[:5]}")
            for name, record in view.items():
                if record != first[name]:
                    raise Disagreement(
                        f"seed {self.seed}, t={self.clock.now:.1f}: {node.address} and {group[0].address} differ "
                        f"about {name}:\n  {record}\n  {first[name]}"
                    )
