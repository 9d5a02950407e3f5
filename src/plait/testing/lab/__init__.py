"""Virtual hosts in network namespaces, for tests, benchmarks and the demonstration: see docs/lab.md."""

from plait.testing.lab.errors import CommandFailed, LabError, Unanswered
from plait.testing.lab.features import missing_features
from plait.testing.lab.hosts import Container, Host, Nat, Router
from plait.testing.lab.impairment import Impairment
from plait.testing.lab.lab import Lab, remove
from plait.testing.lab.node import Node
from plait.testing.lab.probes import Capture, PingResult, Transfer, UdpResult
from plait.testing.lab.processes import Completed, Process
from plait.testing.lab.topology import Port, Segment
from plait.testing.lab.waiting import wait_until

__all__ = [
    "Capture",
    "CommandFailed",
    "Completed",
    "Container",
    "Host",
    "Impairment",
    "Lab",
    "LabError",
    "Nat",
    "Node",
    "PingResult",
    "Port",
    "Process",
    "Router",
    "Segment",
    "Transfer",
    "UdpResult",
    "Unanswered",
    "missing_features",
    "remove",
    "wait_until",
]
