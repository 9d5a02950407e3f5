"""A hundred nodes come to one view of the mesh, whatever happens to them. Seeded: a failure names its seed."""

import random

import pytest

from plait.testing.sim import Simulation
from plait.testing.sim.node import SimNode


def start_sparse(simulation: Simulation, nodes: list[SimNode], degree: int) -> None:
    """Start nodes that each call some earlier ones, without discovery: a connected, random graph."""
    for number, node in enumerate(nodes):
        node.discovery = False
        earlier = nodes[:number]
        targets = simulation.rng.sample(earlier, min(degree, len(earlier)))
        node.start([target.address for target in targets])


def random_targets(simulation: Simulation, count: int = 2) -> list[str]:
    running = [node.address for node in simulation.nodes.values() if node.is_running]
    return simulation.rng.sample(running, min(count, len(running)))


def is_established(node: SimNode) -> bool:
    connections = node.router.peers.ourself.connections
    return bool(connections) and all(connection.established for connection in connections)


def test_three_nodes_discover_each_other() -> None:
    simulation = Simulation(seed=1)
    first, second, third = simulation.add(3)
    first.start([])
    second.start([first.address])
    third.start([first.address])
    simulation.run_for(10)
    simulation.check_agreement()
    for node in (first, second, third):
        connections = node.router.peers.ourself.connections
        assert len(connections) == 2
        assert all(connection.established for connection in connections)


def test_broadcasts_pass_soon_after_an_overlay_carries_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    simulation = Simulation(seed=3)
    first, second = simulation.add(2)
    has_confirmed = SimNode.has_confirmed
    # The first heartbeats are lost, so the overlay's news comes some time after that of the connection.
    late = 0.3
    monkeypatch.setattr(
        SimNode, "has_confirmed", lambda node, uid: simulation.clock.now > late and has_confirmed(node, uid)
    )
    first.start([])
    second.start([first.address])
    while not all(is_established(node) for node in (first, second)):
        simulation.run_for(0.01)
        assert simulation.clock.now < 5
    assert simulation.clock.now > late
    simulation.run_for(0.2)
    assert list(first.router.routes.broadcast(first.name)) == [second.name]
    assert list(second.router.routes.broadcast(second.name)) == [first.name]


def test_two_nodes_that_call_each_other_keep_one_connection() -> None:
    simulation = Simulation(seed=2)
    first, second = simulation.add(2)
    first.start([second.address])
    second.start([first.address])
    simulation.run_for(30)
    simulation.check_agreement()
    assert len(first.router.links) == len(second.router.links) == 1


@pytest.mark.parametrize(("seed", "count"), [(11, 100), (12, 20), (13, 20), (14, 20)])
def test_nodes_agree_after_joining_crashing_and_restarting(seed: int, count: int) -> None:
    simulation = Simulation(seed)
    nodes = simulation.add(count)
    start_sparse(simulation, nodes, degree=3)
    simulation.run_for(60)
    simulation.check_agreement()
    victims = simulation.rng.sample(nodes, count // 6)
    for victim in victims:
        victim.crash()
    simulation.run_for(90)
    for victim in victims[: count // 10]:
        victim.start(random_targets(simulation))
    simulation.run_for(120)
    simulation.check_agreement()


@pytest.mark.parametrize(("seed", "count"), [(21, 100), (22, 20), (23, 20)])
def test_nodes_agree_after_a_partition(seed: int, count: int) -> None:
    simulation = Simulation(seed)
    nodes = simulation.add(count)
    start_sparse(simulation, nodes, degree=3)
    simulation.run_for(60)
    half = {node.address for node in simulation.rng.sample(nodes, count // 2)}
    simulation.network.partition([half])
    simulation.run_for(150)
    newcomer = simulation.add()[0]
    newcomer.discovery = False
    newcomer.start([next(address for address in simulation.nodes if address not in half)])
    simulation.run_for(60)
    simulation.network.heal()
    # Targets are tried again within the longest back-off, 6 minutes and a half of it.
    simulation.run_for(600)
    simulation.check_agreement()


def test_a_history_can_be_replayed() -> None:
    def history(seed: int) -> list[tuple[str, int]]:
        simulation = Simulation(seed)
        nodes = simulation.add(12)
        start_sparse(simulation, nodes, degree=2)
        simulation.run_for(40)
        return [(str(node.name), node.router.peers.ourself.summary.version) for node in nodes]

    assert history(5) == history(5)


def test_a_planted_defect_is_found() -> None:
    """A mesh in which one node ignores topology must be reported as disagreeing."""
    simulation = Simulation(seed=3)
    nodes = simulation.add(5)
    start_sparse(simulation, nodes, degree=2)
    nodes[4].router.peers.merge = lambda records: type(nodes[0].router.peers).merge(nodes[4].router.peers, [])  # type: ignore[method-assign]
    simulation.run_for(60)
    with pytest.raises(AssertionError, match="seed 3"):
        simulation.check_agreement()


def test_random_is_only_drawn_from_the_seed() -> None:
    state = random.getstate()
    simulation = Simulation(seed=4)
    start_sparse(simulation, simulation.add(4), degree=2)
    simulation.run_for(20)
    assert random.getstate() == state
