"""A mesh of pure cores under a virtual clock and network: seeded, so that every run can be replayed."""

from plait.testing.sim.network import Network
from plait.testing.sim.node import SimNode
from plait.testing.sim.simulation import Disagreement, Simulation

__all__ = ["Disagreement", "Network", "SimNode", "Simulation"]
